// What a script adds to the pages; each of them works without.
"use strict";

// A button that shows the passwords in the fields it names, and hides them again; in any case before they are sent, so
// that no browser takes them for ordinary text.
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

// A form that only carries an answer on sends itself.
for (const form of document.querySelectorAll("form[data-sends-itself]")) {
  HTMLFormElement.prototype.submit.call(form);
}
