/** The reader decides what is in view: item 8 of the checklist. */

import assert from 'node:assert/strict';
import { e2e } from './support/e2e.js';
import { until } from './support/until.js';

/**
 * Waits until the view has held still for so many frames in a row, during which text came below it. A view
 * that is pulled along never does.
 */
function holdsStill(tab, frames = 50) {
  return tab.viewport.evaluate(
    (viewport, wanted) =>
      new Promise((done) => {
        let [top, height, still] = [viewport.scrollTop, viewport.scrollHeight, 0];
        const look = () => {
          still = viewport.scrollTop === top ? still + 1 : 0;
          if (still === 0) [top, height] = [viewport.scrollTop, viewport.scrollHeight];
          if (still >= wanted && viewport.scrollHeight > height) done(true);
          else requestAnimationFrame(look);
        };
        requestAnimationFrame(look);
      }),
    frames,
  );
}

/** The end is in view, and stays there while more comes. */
async function follows(tab) {
  await until('the end', async () => (await tab.distanceToEnd()) <= 2);
  await tab.button('Latest').waitFor({ state: 'detached' });
  const height = await tab.viewport.evaluate(({ scrollHeight }) => scrollHeight);
  await tab.page.waitForFunction(
    (before) => document.querySelector('.viewport').scrollHeight > before,
    height,
  );
  await tab.drawn();
  // What came since the last frame has not been pinned yet.
  await until('the end again', async () => (await tab.distanceToEnd()) <= 2);
}

e2e('one notch up holds still while an answer streams, and three ways lead back', async (stage) => {
  const tab = await stage.open();
  await tab.startChat('Helper');
  await tab.say('/lorem 20000');
  await until('a long answer', () =>
    tab.viewport.evaluate(({ scrollHeight, clientHeight }) => scrollHeight > 3 * clientHeight),
  );
  await follows(tab);
  const { mouse, keyboard } = tab.page;
  const latest = tab.button('Latest');
  await mouse.move(700, 400);

  await mouse.wheel(0, -100);
  await latest.waitFor();
  await holdsStill(tab);
  assert.equal(await latest.count(), 1);
  await stage.shot(tab, '08-latest');
  await latest.click();
  await follows(tab);

  await mouse.wheel(0, -300);
  await latest.waitFor();
  await holdsStill(tab);
  await until('the end by wheel', async () => {
    await mouse.wheel(0, 2_000);
    return (await latest.count()) === 0;
  });
  await follows(tab);

  await mouse.wheel(0, -300);
  await latest.waitFor();
  await tab.viewport.focus();
  await keyboard.press('End');
  await follows(tab);

  await keyboard.press('PageUp');
  await latest.waitFor();
  await holdsStill(tab);
  assert.ok((await tab.distanceToEnd()) > 300);
  await latest.click();
  await follows(tab);
  await tab.stop.click();
  await tab.idle();
});

e2e('a selection in a finished paragraph survives the streaming below it', async (stage) => {
  const tab = await stage.open();
  await tab.startChat('Helper');
  await tab.say('/lorem 20000');
  await tab.page.waitForFunction(() => document.querySelectorAll('.has-caret .block').length > 20);
  await tab.page.evaluate(() => {
    const paragraph = [...document.querySelectorAll('.has-caret .block p')].at(-3);
    getSelection().selectAllChildren(paragraph);
  });
  const selected = () => tab.page.evaluate(() => getSelection().toString());
  const before = await selected();
  assert.ok(before.length > 20);

  // Selecting is reading: the view stays.
  await tab.button('Latest').waitFor();
  await holdsStill(tab);

  assert.equal(await selected(), before);
  await stage.shot(tab, '08-selection');
  await tab.stop.click();
  await tab.idle();
});

e2e('older messages come without a jump, and go again', async (stage) => {
  const log = await stage.commander();
  const sessionId = await log.create('helper', 'A long one');
  await log.fill(
    sessionId,
    Array.from(
      { length: 400 },
      (_, index) => `/echo ${index} ${'lorem ipsum '.repeat(index % 30)}`,
    ),
  );
  const tab = await stage.open({ url: `${stage.server.url}#/s/${sessionId}` });
  await tab.ready();
  await until('the end', async () => (await tab.distanceToEnd()) <= 2);
  const mounted = () => tab.page.locator('.message').count();
  assert.ok((await mounted()) <= 210, 'the newest only');

  let drift = 0;
  await until('the first message', async () => {
    drift = Math.max(drift, await driftNearTheTop(tab));
    return (await tab.page.locator('.older, .edge').count()) === 0;
  });

  assert.ok(drift <= 1, `${drift} px`);
  await tab.viewport.evaluate((viewport) => (viewport.scrollTop = 0));
  await tab.page.locator('.system').waitFor();
  assert.ok((await mounted()) > 600);
  await stage.shot(tab, '08-oldest');

  await tab.button('Latest').click();

  await until('the end', async () => (await tab.distanceToEnd()) <= 2);
  await until('fewer messages', async () => (await mounted()) <= 410);
});

/** Goes near the top, and returns how far what is read there moves within the next frames. */
function driftNearTheTop(tab) {
  return tab.viewport.evaluate(async (viewport) => {
    const frame = () => new Promise((done) => requestAnimationFrame(done));
    viewport.dispatchEvent(new WheelEvent('wheel', { deltaY: -10 }));
    viewport.scrollTop = 200;
    await frame();
    await frame();
    const top = () => viewport.getBoundingClientRect().top;
    const messages = [...viewport.querySelectorAll('.message')];
    const read = messages.find((message) => message.getBoundingClientRect().bottom > top());
    const before = read.getBoundingClientRect().top;
    let drift = 0;
    for (let frames = 0; frames < 60; frames++) {
      await frame();
      const moved = Math.abs(read.getBoundingClientRect().top - before);
      drift = Math.max(drift, read.isConnected ? moved : Infinity);
    }
    return drift;
  });
}
