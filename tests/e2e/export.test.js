/** A chat as a file. */

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { e2e } from './support/e2e.js';

async function download(tab, action) {
  const [file] = await Promise.all([tab.page.waitForEvent('download'), tab.chooseAction(action)]);
  return { name: file.suggestedFilename(), text: readFileSync(await file.path(), 'utf8') };
}

e2e('a chat is taken away as Markdown, and as JSON Lines', async (stage) => {
  const log = await stage.commander();
  const tab = await stage.open();
  const sessionId = await tab.startChat('Helper');
  await tab.ask('/echo **bold** words');
  await tab.page.locator('.title-menu').click();
  await tab.page.getByRole('menuitem', { name: 'Export as Markdown' }).waitFor();
  await stage.shot(tab, '16-menu');
  await tab.page.keyboard.press('Escape');

  const markdown = await download(tab, 'Export as Markdown');
  assert.match(markdown.name, /\.md$/);
  assert.ok(markdown.text.includes('**bold** words'));

  const lines = await download(tab, 'Export as JSON Lines');
  assert.match(lines.name, /\.jsonl$/);
  const events = lines.text
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line));
  const inLog = await log.history(sessionId);
  assert.deepEqual(
    events.filter(({ seq }) => seq !== undefined).map(({ type }) => type),
    inLog.map(({ type }) => type),
  );
  // The page has stayed what it was.
  assert.equal(tab.sessionId, sessionId);
  await tab.ready();
});
