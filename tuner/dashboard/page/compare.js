// The page is whole without this: it only follows the reader's theme.

const dark = matchMedia("(prefers-color-scheme: dark)");
function follow() {
  document.documentElement.dataset.theme = dark.matches ? "dark" : "light";
}
dark.addEventListener("change", follow);
follow();
