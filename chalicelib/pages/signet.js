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
