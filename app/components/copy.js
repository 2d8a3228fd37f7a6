"use strict";
// Copies a command when the button beside it is pressed.
if (!window.labCopies) {
  window.labCopies = true;
  document.addEventListener("click", async (event) => {
    const button = event.target.closest("[data-copy]");
    if (!button) return;
    const command = button.previousElementSibling;
    if (navigator.clipboard) await navigator.clipboard.writeText(command.textContent);
    else {  // browsers give no clipboard to a page of another machine without TLS
      getSelection().selectAllChildren(command);
      document.execCommand("copy");
    }
    button.dataset.copy = "done";
    button.ariaLabel = "Copied";
    setTimeout(() => { button.dataset.copy = ""; button.ariaLabel = "Copy this command"; }, 1500);
  });
}
