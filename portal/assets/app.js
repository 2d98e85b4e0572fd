"use strict";
// Everything here is a comfort: each page does its work without it.

for (const button of document.querySelectorAll("button.copy")) {
  button.hidden = false;
  button.addEventListener("click", async () => {
    const said = document.getElementById("copied");
    const items = document.getElementById(button.dataset.copy).querySelectorAll("li");
    const text = items.length
      ? Array.from(items, (li) => li.textContent.trim()).join("\n")
      : document.getElementById(button.dataset.copy).textContent.trim();
    try {
      await navigator.clipboard.writeText(text);
      said.textContent = button.dataset.copied;
    } catch {
      said.textContent = button.dataset.failed;
    }
  });
}

for (const time of document.querySelectorAll("time[datetime]")) {
  const at = new Date(time.dateTime);
  if (!Number.isNaN(at.getTime())) {
    time.title = time.textContent;
    time.textContent = at.toLocaleString(document.documentElement.lang, { dateStyle: "medium", timeStyle: "short" });
  }
}

const filter = document.getElementById("filter");
if (filter) {
  const items = Array.from(document.querySelectorAll("#list > li"));
  filter.parentElement.hidden = items.length < 6;
  filter.addEventListener("input", () => {
    const wanted = filter.value.toLowerCase();
    for (const item of items) item.hidden = !item.textContent.toLowerCase().includes(wanted);
  });
}
