// A single-page application that signs users in with Signet: oidc-client-ts, authorization code flow with PKCE.
const home = location.origin + location.pathname;
const manager = new oidc.UserManager({
  authority: "http://localhost:8000",
  client_id: "spa-quickstart",
  redirect_uri: home,
  post_logout_redirect_uri: home,
  scope: "openid profile",
  loadUserInfo: true,
  automaticSilentRenew: false,
});
const element = (id) => document.getElementById(id);
element("login").onclick = () => manager.signinRedirect({ nonce: crypto.randomUUID() });
element("logout").onclick = () => manager.signoutRedirect();

const answer = new URLSearchParams(location.search);
let problem = "";
if (answer.has("code") || answer.has("error")) {
  history.replaceState({}, "", home); // the code does not stay in the address bar
  problem = await manager.signinCallback(`${home}?${answer}`).then(() => "", () => "You are not signed in.");
}
const user = await manager.getUser();
const signedIn = user && !user.expired;
element("user").textContent = signedIn ? `Signed in as ${user.profile.name ?? user.profile.sub}` : problem;
element("login").hidden = signedIn;
element("logout").hidden = !signedIn;
