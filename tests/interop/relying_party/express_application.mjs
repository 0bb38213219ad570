// A web application with express-openid-connect. Its argument is JSON: `port`, and the library's configuration.
import express from "express";
import openid from "express-openid-connect";

const { port, ...configuration } = JSON.parse(process.argv[2]);
const app = express();
app.get("/favicon.ico", (_request, response) => response.sendStatus(204));
app.use(openid.auth({ authRequired: false, idpLogout: true, ...configuration }));
app.get("/reports", openid.requiresAuth(), async (request, response) => {
  const { sub, name } = await request.oidc.fetchUserInfo();
  response.json({ url: request.originalUrl, sub, name });
});
app.get("/", (request, response) => response.json({ signed_in: request.oidc.isAuthenticated() }));
app.get("/refresh", openid.requiresAuth(), async (request, response) => {
  const before = request.oidc.accessToken.access_token;
  const { access_token: after } = await request.oidc.accessToken.refresh();
  response.json({ refreshed: before !== after });
});
app.use((error, _request, response, _next) => response.status(error.status ?? 500).json({ error: error.error ?? error.message }));
app.listen(port, "127.0.0.1");
