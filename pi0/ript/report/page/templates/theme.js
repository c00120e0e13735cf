// Before anything is painted: the theme chosen earlier, else that of the system.
(function () {
  let chosen = null;
  try { chosen = localStorage.getItem("ript-theme"); } catch (error) { /* storage may be switched off */ }
  const isDark = matchMedia("(prefers-color-scheme: dark)").matches;
  document.documentElement.dataset.theme = chosen || (isDark ? "dark" : "light");
})();
