/** Several tabs of one person: item 7 of the checklist. */

import assert from 'node:assert/strict';
import { e2e } from './support/e2e.js';
import { until } from './support/until.js';

e2e('two tabs show the same answer, and a stop in one is a stop in both', async (stage) => {
  const one = await stage.open();
  await one.startChat('Helper');
  const two = await stage.openIn(one.page.context(), one.page.url());
  await two.ready();
  await one.say('/count 100 20');
  await two.stop.waitFor();
  await Promise.all([one.idle(), two.counted(100)]);
  await two.idle();
  await one.assertCounted(100);
  await two.assertCounted(100);

  await two.say('/count 5000 20');
  await one.counted(20);
  await one.stop.click();
  await two.text('Stopped', { exact: true }).waitFor();
  await Promise.all([one.idle(), two.idle()]);
  await stage.shot(one, '07-stopped-here');
  await stage.shot(two, '07-stopped-there');
  const [mine, theirs] = [await one.answer.innerText(), await two.answer.innerText()];
  assert.equal(mine, theirs);
});

e2e('a name and an end given in one tab are there in the other', async (stage) => {
  const one = await stage.open();
  await one.startChat('Helper');
  const two = await stage.openIn(one.page.context(), one.page.url());
  await two.ready();

  await one.chooseAction('Rename');
  await one.page.getByRole('textbox', { name: 'Name of the chat' }).fill('Trip plan');
  await one.page.keyboard.press('Enter');

  await two.page.waitForFunction(() => document.title.startsWith('Trip plan'));
  await two.page.locator('.session-title', { hasText: 'Trip plan' }).waitFor();

  await two.chooseAction('Close');
  await two.button('Close chat').click();

  await one.text('This chat is closed and takes no more messages.').waitFor();
  assert.ok(await one.field.evaluate(({ readOnly }) => readOnly));
  await stage.shot(one, '07-closed-there');
});

e2e('a chat that is closed in mid-answer ends it in both tabs', async (stage) => {
  const one = await stage.open();
  await one.startChat('Helper');
  const two = await stage.openIn(one.page.context(), one.page.url());
  await two.ready();
  await one.say('/count 5000 20');
  await two.counted(10);
  await two.chooseAction('Close');
  await two.button('Close chat').click();

  for (const tab of [one, two]) {
    await tab.text('Stopped: the chat was closed').waitFor();
    await tab.text('This chat is closed and takes no more messages.').waitFor();
    await tab.idle();
    assert.equal((await tab.count()).wrong, undefined);
  }
});

e2e('a duplicated tab and its original both go on', async (stage) => {
  const log = await stage.commander();
  const one = await stage.open();
  const sessionId = await one.startChat('Helper');
  await one.ask('/echo before');
  const clientId = (tab) => tab.page.evaluate(() => sessionStorage.getItem('duologue:client'));
  const before = await clientId(one);
  const copied = await one.page.evaluate(() => ({ ...sessionStorage }));
  await one.say('/count 200 20');
  await one.counted(10);

  const two = await stage.openIn(one.page.context(), one.page.url(), (page) =>
    page.addInitScript((entries) => {
      if (sessionStorage.length > 0) return;
      for (const [key, value] of Object.entries(entries)) sessionStorage.setItem(key, value);
    }, copied),
  );

  // The older one was replaced, and has taken a new name.
  await until('another identity', async () => (await clientId(one)) !== before);
  assert.equal(await clientId(two), before);
  await Promise.all([one.counted(200), two.counted(200)]);
  await Promise.all([one.idle(), two.idle()]);
  await one.assertCounted(200);
  await two.assertCounted(200);
  await one.ask('/echo from the one');
  await two.ask('/echo from the other');
  for (const tab of [one, two]) {
    await tab.ownMessages('/echo from the one').waitFor();
    await tab.ownMessages('/echo from the other').waitFor();
    await tab.page.locator('.connection').waitFor({ state: 'detached' });
  }
  assert.deepEqual(await log.questions(sessionId), [
    '/echo before',
    '/count 200 20',
    '/echo from the one',
    '/echo from the other',
  ]);
});

e2e('emoji and ideographs are counted as the server counts them', async (stage) => {
  const log = await stage.commander();
  const one = await stage.open();
  const sessionId = await one.startChat('Helper');
  const two = await stage.openIn(one.page.context(), one.page.url());
  await two.ready();
  const subscribed = () =>
    [one, two].flatMap((tab) => tab.sent.filter(({ frame }) => frame.type === 'subscribe')).length;
  const before = subscribed();

  // A plain message is quoted, word by word, in a long answer.
  const text = '👩‍👩‍👧 家族 🙂 𝒳 日本語のテキスト 🏳️‍🌈 한국어 ñ';
  await one.say(text);
  await two.page.locator('.is-streaming table').waitFor();
  await two.page.reload();
  await Promise.all([one.idle(), two.text('/fail KIND').waitFor()]);
  await two.idle();

  const [answer] = await log.answers(sessionId);
  assert.ok(answer.includes(text));
  const shown = await one.answer.innerText();
  assert.ok(shown.includes(text));
  assert.equal(await two.answer.innerText(), shown);
  // An offset that did not match would have been asked about.
  assert.equal(subscribed() - before, 1, 'only the reload subscribes');
  await stage.shot(one, '07-emoji');
});
