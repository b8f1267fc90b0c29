/** From the list of agents to an answer: items 2 and 3 of the checklist. */

import assert from 'node:assert/strict';
import { e2e } from './support/e2e.js';
import { Gate } from './support/gate.js';
import { until } from './support/until.js';

e2e('an agent is chosen, greets, and answers in Markdown as the log has it', async (stage) => {
  const log = await stage.commander();
  const tab = await stage.open();
  const { page } = tab;
  await page.locator('button.card').nth(2).waitFor();
  const agents = await page.locator('button.card strong').allTextContents();
  assert.deepEqual(agents, ['Helper', 'Writer', 'Counter', 'Combat tracker', 'Clerk', 'Worker']);
  await stage.shot(tab, '02-agents');

  const sessionId = await tab.startChat('Helper');
  await page.locator('.system summary').waitFor();
  await tab.answer.getByText('Hello! Ask me anything').waitFor();
  await stage.shot(tab, '02-new-chat');

  await tab.say('/lorem 400');
  await page.locator('.is-streaming .hljs-keyword').first().waitFor();
  await stage.shot(tab, '02-streaming');
  await tab.idle();
  await stage.shot(tab, '02-answer');

  for (const element of ['h3', 'em', 'strong', 'code', 'li', 'td', '.hljs-keyword']) {
    assert.ok((await tab.answer.locator(element).count()) > 0, element);
  }
  const meter = page.getByRole('meter', { name: 'Context used' });
  assert.ok((await meter.evaluate(({ value }) => value)) > 0);
  assert.match(
    await page.locator('.context').getAttribute('title'),
    /^\d.* of 8,192 tokens \(\d+ %\)/,
  );

  await page.context().grantPermissions(['clipboard-read', 'clipboard-write']);
  await page.getByRole('button', { name: 'Copy message' }).last().click();
  await page.getByRole('status').getByText('Copied').waitFor({ state: 'attached' });
  const copied = await page.evaluate(() => navigator.clipboard.readText());
  assert.deepEqual(await log.answers(sessionId), [copied]);
  // What was drawn bit by bit looks as what is drawn as a whole.
  const fresh = await stage.open({ url: page.url() });
  await fresh.page.locator('.hljs-keyword').first().waitFor();
  const html = ({ innerHTML }) => innerHTML;
  assert.equal(await tab.answer.evaluate(html), await fresh.answer.evaluate(html));
});

e2e('nothing can be written before the agent has loaded', async (stage) => {
  let gate;
  const tab = await stage.open({}, async (page) => (gate = await Gate.on(page, 'frontend-api')));
  await tab.page.locator('button.card').first().waitFor();
  gate.hold();
  await tab.page.locator('button.card').first().click();
  await tab.text('Loading agent…').waitFor();
  assert.ok(await tab.field.isDisabled());
  assert.ok(await tab.button('Send').isDisabled());
  await stage.shot(tab, '02-loading');

  gate.release();
  await tab.ready();

  await tab.page.locator('.system').waitFor();
  assert.equal(await tab.answer.count(), 1);
  await tab.focusReaches(/^textarea Message Helper/);
});

e2e('an answer is stopped, keeps its text, and the chat goes on', async (stage) => {
  let gate;
  const tab = await stage.open({}, async (page) => (gate = await Gate.on(page, 'frontend-api')));
  await tab.startChat('Helper');
  await tab.say('/count 3000 20');
  // From the send on, and not only once the answer begins.
  assert.ok(await tab.button('Stop', { exact: true }).isVisible());
  await tab.counted(20);
  gate.hold();
  await tab.stop.click();
  await tab.button('Stopping…').waitFor();
  await stage.shot(tab, '03-stopping');

  gate.release();
  await tab.text('Stopped', { exact: true }).waitFor();
  await tab.idle();

  const { last, wrong } = await tab.count();
  assert.ok(last >= 20 && last < 3000, `${last}`);
  assert.equal(wrong, undefined);
  await stage.shot(tab, '03-stopped');
  await tab.ask('/echo still here');
  assert.equal((await tab.answer.innerText()).trim(), 'still here');
});

e2e('messages sent during an answer wait, and run in their order', async (stage) => {
  const log = await stage.commander();
  const tab = await stage.open();
  const sessionId = await tab.startChat('Helper');
  await tab.say('/count 3000 20');
  await tab.counted(5);
  await tab.say('/echo one');
  await tab.say('/echo two');
  await tab.text('2 waiting').waitFor();
  await stage.shot(tab, '03-queue');
  await tab.stop.click();
  await until('both answers', async () => (await log.answers(sessionId)).length === 3);
  await tab.idle();

  assert.deepEqual((await log.answers(sessionId)).slice(1), ['one', 'two']);
  const shown = await tab.page.locator('.from-user .plain, .from-agent .markdown').allInnerTexts();
  const end = shown.slice(-4).map((text) => text.trim());
  assert.deepEqual(end, ['/echo one', 'one', '/echo two', 'two']);

  await tab.say('/count 3000 20');
  await tab.counted(2);
  await tab.say('/echo never');
  await tab.text('1 waiting').waitFor();
  await tab.button('Stop and clear').click();
  await tab.text('Not answered: taken from the queue').waitFor();
  await tab.idle();
  assert.ok(!(await log.answers(sessionId)).includes('never'));
});

e2e('an agent that is to be interrupted gives way to a newer message', async (stage) => {
  const tab = await stage.open();
  await tab.startChat('Counter');
  await tab.say('/count 5000 20');
  await tab.counted(10);
  await tab.say('/echo something else');

  await tab.text('Stopped: a newer message took its place').waitFor();

  await tab.idle();
  assert.equal((await tab.answer.innerText()).trim(), 'something else');
  const shown = await tab.page.locator('.from-user .plain, .run-end').allInnerTexts();
  const end = shown.slice(-3);
  assert.deepEqual(end, [
    '/count 5000 20',
    'Stopped: a newer message took its place',
    '/echo something else',
  ]);
});
