// Opens a study in OHIF with headless Chromium, then its series one after the other by the words in their thumbnails.
// Writes a screenshot of each and, as JSON on standard output, the text that could be read beside it.
// usage: NODE_PATH=... node ohif_pages.js URL FOLDER CHROMIUM "WORDS" ["WORDS" ...]
const { chromium } = require("playwright-core");
const [url, folder, executablePath, ...series] = process.argv.slice(2);
const flags = [
  "--no-sandbox",
  "--use-gl=angle",
  "--use-angle=swiftshader",
  "--enable-unsafe-swiftshader",
  "--ignore-gpu-blocklist",
  "--disable-background-networking",
  "--disable-component-update",
];
const thumbnails = '[data-cy^="study-browser-thumbnail"]';

// words in the page, and those that are drawn on the images
const readable = () =>
  [document.body.innerText, ...[...document.querySelectorAll("svg text")].map((text) => text.textContent)].join("\n");

(async () => {
  const browser = await chromium.launch({ executablePath, headless: true, args: flags });
  const page = await browser.newPage({ viewport: { width: 1500, height: 950 } });
  const faults = [];
  page.on("pageerror", (error) => faults.push(error.message.slice(0, 200)));
  await page.goto(url, { waitUntil: "domcontentloaded" });
  await page.locator(thumbnails).first().waitFor({ timeout: 90000 });
  await page.waitForTimeout(6000);
  const tour = page.getByText("Skip all");
  if (await tour.isVisible()) await tour.click();
  const seen = [{ name: "study", text: await page.evaluate(readable) }];
  await page.screenshot({ path: `${folder}/0-study.png` });
  for (const [index, words] of series.entries()) {
    const thumbnail = page.locator(thumbnails).filter({ hasText: words }).first();
    await thumbnail.scrollIntoViewIfNeeded({ timeout: 20000 });
    await thumbnail.dblclick({ timeout: 20000, force: true });
    await page.waitForTimeout(6000);
    const yes = page.getByRole("button", { name: "Yes", exact: true });
    if (words.includes("segments") && (await yes.isVisible())) await yes.click();
    await page.getByText("Loading", { exact: false }).waitFor({ state: "hidden", timeout: 60000 });
    await page.waitForTimeout(4000);
    seen.push({ name: words, text: await page.evaluate(readable) });
    await page.screenshot({ path: `${folder}/${index + 1}.png` });
  }
  console.log(JSON.stringify({ seen, faults }));
  await browser.close();
})().catch((error) => {
  console.error(error);
  process.exit(1);
});
