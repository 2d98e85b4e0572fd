"use strict";
// The only thing here that cannot be done without a script: no browser has a form for passkeys. The pages that load this offer
// another way beside. The answer goes back in an ordinary form.

async function ask(form) {
  const response = await fetch(form.dataset.options, { method: "POST", headers: { "X-Token": form.elements.token.value } });
  if (response.status === 401 || response.status === 403) {
    location.reload(); // which leads to what the session lacks
    return null;
  }
  if (!response.ok) throw new Error("options: " + response.status);
  const options = (await response.json()).publicKey;
  return form.dataset.ceremony === "enrol"
    ? navigator.credentials.create({ publicKey: PublicKeyCredential.parseCreationOptionsFromJSON(options) })
    : navigator.credentials.get({ publicKey: PublicKeyCredential.parseRequestOptionsFromJSON(options) });
}

for (const form of document.querySelectorAll("form.passkey")) {
  const said = form.querySelector("[role=alert]");
  const button = form.querySelector("button");
  const say = (text) => {
    said.textContent = text;
    said.hidden = !text;
  };
  if (!window.PublicKeyCredential || !PublicKeyCredential.parseCreationOptionsFromJSON) {
    say(form.dataset.unsupported);
    continue;
  }
  form.querySelector(".scripted").hidden = false;
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    say("");
    button.disabled = true;
    try {
      const answer = await ask(form);
      if (!answer) return;
      form.elements.passkey.value = JSON.stringify(answer);
      form.submit();
    } catch (error) {
      button.disabled = false;
      const texts = { NotAllowedError: form.dataset.notallowed, InvalidStateError: form.dataset.known };
      say(texts[error.name] || form.dataset.failed);
    }
  });
}
