// What the page does in the browser beside Gradio. Gradio runs this file once when the page opens.

window.muraPage = {
  // Screen readers say aloud what changes in the status line.
  announceStatus() {
    const status = document.querySelector("#status");
    if (!status) return;
    status.setAttribute("role", "status");
    status.setAttribute("aria-live", "polite");
  },

  // Scrolls to the answer where it is out of sight, at once for those who asked for less motion.
  showAnswer() {
    const answer = document.querySelector("#answer");
    const top = answer.getBoundingClientRect().top;
    if (top >= 0 && top <= window.innerHeight / 2) return;
    const still = window.matchMedia("(prefers-reduced-motion: reduce)").matches;
    answer.scrollIntoView({ behavior: still ? "auto" : "smooth" });
  },

  // Tells Gradio which simulated study was clicked.
  pickSample(event, trigger) {
    const button = event.target.closest("button[data-sample]");
    if (button) trigger("click", { sample: button.dataset.sample });
  },

  // Saves an archive that came as "name base64"; it is nowhere on the server.
  saveArchive(archive) {
    if (!archive) return;
    const [name, data] = archive.split(" ");
    const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([bytes], { type: "application/zip" }));
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  },
};

window.muraPage.announceStatus();
