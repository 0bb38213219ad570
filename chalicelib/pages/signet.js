// Optional improvements: every page works without this script.
"use strict";

// Buttons that show and hide the passwords in the fields that they name. Passwords are hidden again before the form is
// submitted, so that no browser stores them as ordinary text.
for (const button of document.querySelectorAll("button[data-shows]")) {
  const fields = button.dataset.shows.split(" ").map((id) => document.getElementById(id));
  const show = (shown) => {
    for (const field of fields) field.type = shown ? "text" : "password";
    button.querySelector(".show").hidden = shown;
    button.querySelector(".hide").hidden = !shown;
  };
  button.addEventListener("click", () => show(fields[0].type === "password"));
  button.form.addEventListener("submit", () => show(false));
  button.hidden = false;
}

// A button that is pressed twice sends its form once. It is disabled only after the form was made, which its value is
// part of. It works again when the user comes back to this page, and after a while: an application on the device may
// have opened, or nothing has answered.
for (const form of document.querySelectorAll("form:not([data-sends-itself])")) {
  const enable = (enabled) => {
    for (const button of form.querySelectorAll("button[type=submit]")) button.disabled = !enabled;
  };
  let timer;
  form.addEventListener("submit", () => {
    setTimeout(() => enable(false));
    clearTimeout(timer);
    timer = setTimeout(() => enable(true), 10000);
  });
  window.addEventListener("pageshow", () => enable(true));
}

// Times in the reader's time zone, and in the reader's form of the page's language. Without this script they are UTC.
const language = document.documentElement.lang;
const locale = navigator.languages.find((name) => name.split("-")[0] === language) || language;
const day = { day: "numeric", month: "long", year: "numeric" };
const format = new Intl.DateTimeFormat(locale, { ...day, hour: "2-digit", minute: "2-digit", timeZoneName: "short" });
for (const time of document.querySelectorAll("time[datetime]")) {
  time.title = time.textContent;
  time.textContent = format.format(new Date(time.dateTime));
}

// Forms that only forward a response submit themselves, unless the user has gone back to them.
const cameBack = performance.getEntriesByType("navigation")[0]?.type === "back_forward";
for (const form of cameBack ? [] : document.querySelectorAll("form[data-sends-itself]")) {
  HTMLFormElement.prototype.submit.call(form);
}

// Passkeys (Web Authentication Level 3). Sign-in: a button, and the list that the browser shows at the username. The
// answer is sent in the same form as a password. Account page: a button that adds one.
const bytes = (text) => Uint8Array.from(atob(text.replace(/-/g, "+").replace(/_/g, "/")), (char) => char.charCodeAt(0));
const base64url = (buffer) => {
  const text = String.fromCharCode(...new Uint8Array(buffer ?? []));
  return btoa(text).replace(/\+/g, "-").replace(/\//g, "_").replace(/=/g, "");
};
const withBytes = (descriptors) => descriptors?.map((each) => ({ ...each, id: bytes(each.id) }));
// Browsers that support it tell the password manager which passkeys no longer work.
const signal = (name, options) => Promise.resolve(window.PublicKeyCredential?.[name]?.(options)).catch(() => {});
const show = (id, shown) => {
  const element = document.getElementById(id);
  if (element) element.hidden = !shown;
};
const send = (form, members) => {
  // The passkey replaces the current password. A new one is sent, hidden again so that no browser stores it as text.
  for (const field of form.querySelectorAll("input[autocomplete=current-password]")) field.value = "";
  for (const field of form.querySelectorAll("input[autocomplete=new-password]")) field.type = "password";
  const field = document.createElement("input");
  Object.assign(field, { type: "hidden", name: "passkey", value: JSON.stringify(members) });
  form.append(field);
  HTMLFormElement.prototype.submit.call(form);
};
// Not an error: the user has cancelled, or another request has replaced this one.
const isCancelled = (error) => error.name === "NotAllowedError" || error.name === "AbortError";

// The sign-in page says whether this browser can add a passkey, so that it is offered only then.
const capable = document.querySelector("input[name=can_add_passkey]");
const isCapable = capable && window.PublicKeyCredential?.isUserVerifyingPlatformAuthenticatorAvailable?.();
isCapable?.then((yes) => Object.assign(capable, { value: yes ? "yes" : "" })).catch(() => {});

const signInButton = document.querySelector("button[data-passkey]");
if (signInButton && window.PublicKeyCredential) {
  const { ownDomain, ...options } = JSON.parse(signInButton.dataset.passkey);
  const publicKey = { ...options, challenge: bytes(options.challenge) };
  if (options.allowCredentials) publicKey.allowCredentials = withBytes(options.allowCredentials);
  if (ownDomain && "unknown" in signInButton.dataset) {
    const credentialId = sessionStorage.getItem("passkey");
    if (credentialId) signal("signalUnknownCredential", { rpId: options.rpId, credentialId });
  }
  sessionStorage.removeItem("passkey");
  let pending = Promise.resolve();
  let controller;
  let sent = false;
  const ask = async (mediation) => {
    // Only one request is possible at a time: that of the list ends when the button is pressed.
    controller?.abort();
    controller = new AbortController();
    const { signal: stop } = controller;
    await pending;
    if (sent) return;
    const asking = navigator.credentials.get({ publicKey, mediation, signal: stop });
    pending = asking.then(() => {}, () => {});
    const { id, response } = await asking;
    if (sent) return;
    sent = true;
    sessionStorage.setItem("passkey", id);
    send(signInButton.form, {
      id,
      clientDataJSON: base64url(response.clientDataJSON),
      authenticatorData: base64url(response.authenticatorData),
      signature: base64url(response.signature),
      userHandle: base64url(response.userHandle),
    });
  };
  const offerInList = async () => {
    if (options.allowCredentials || !(await PublicKeyCredential.isConditionalMediationAvailable?.())) return;
    ask("conditional").catch(() => {}); // the user has asked for nothing yet: only the button says what is wrong
  };
  signInButton.addEventListener("click", () => {
    const chosen = signInButton.form.querySelectorAll("input[autocomplete=new-password]");
    if (![...chosen].every((field) => field.reportValidity())) return;
    show("passkey_problem", false);
    ask("optional").catch((error) => {
      show("passkey_problem", !isCancelled(error));
      offerInList();
    });
  });
  // The page is shown again as it was: its challenge may still be valid.
  window.addEventListener("pageshow", () => {
    sent = false;
  });
  signInButton.hidden = false;
  show("passkey_unavailable", false);
  offerInList();
}

const newButton = document.querySelector("button[data-new-passkey]");
if (newButton && window.PublicKeyCredential) {
  const options = JSON.parse(newButton.dataset.newPasskey);
  const publicKey = {
    ...options,
    challenge: bytes(options.challenge),
    user: { ...options.user, id: bytes(options.user.id) },
    excludeCredentials: withBytes(options.excludeCredentials),
  };
  newButton.addEventListener("click", async () => {
    for (const id of ["passkey_problem", "passkey_exists"]) show(id, false);
    try {
      const { response } = await navigator.credentials.create({ publicKey });
      send(newButton.form, {
        clientDataJSON: base64url(response.clientDataJSON),
        attestationObject: base64url(response.attestationObject),
        transports: response.getTransports?.() ?? [],
      });
    } catch (error) {
      if (error.name === "InvalidStateError") show("passkey_exists", true);
      else show("passkey_problem", !isCancelled(error));
    }
  });
  newButton.hidden = false;
  show("passkey_unavailable", false);
}

for (const element of document.querySelectorAll("[data-accepted]")) {
  signal("signalAllAcceptedCredentials", JSON.parse(element.dataset.accepted));
}
