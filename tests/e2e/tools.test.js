/** Agents that act: their calls, the questions about them, and what they suggest. Goes with issue 4. */

import assert from 'node:assert/strict';
import { e2e } from './support/e2e.js';
import { fakeClock } from './support/clock.js';
import { Gate } from './support/gate.js';
import { until } from './support/until.js';

const cards = (tab) => tab.page.locator('.tool');
const approval = (tab) => tab.page.getByRole('form', { name: 'Approval of clock' });
const decision = (tab) => tab.page.locator('.tool-decision').last();

/** The last call, as its card sums it up. */
async function summed(tab, words) {
  await cards(tab).last().locator('summary').filter({ hasText: words }).waitFor();
}

/** A chat in which the agent waits to be allowed to look at the clock, in two tabs. */
async function asked(stage, args = '{"timezone":"UTC"}') {
  const one = await stage.open();
  await one.startChat('Clerk');
  const two = await stage.openIn(one.page.context(), one.page.url());
  await two.ready();
  await one.say(`/tool clock ${args}`);
  for (const tab of [one, two]) await approval(tab).waitFor();
  return { one, two };
}

e2e('calls are cards with what went in, what came out, and how long it took', async (stage) => {
  const tab = await stage.open();
  await tab.startChat('Helper');
  await tab.ask('/tool clock {"timezone":"Europe/Berlin"}\n/tool clock {"timezone":"Nowhere"}');
  assert.equal(await cards(tab).count(), 2);
  const [good, bad] = [cards(tab).first(), cards(tab).last()];
  assert.match(await good.locator('summary').innerText(), /clock\s*done\s*\d+(\.\d)? m?s$/);
  await summed(tab, 'failed');
  for (const card of [good, bad]) await card.locator('summary').click();
  await good.getByText('"timezone": "Europe/Berlin"').first().waitFor();
  await good.getByLabel('Result').waitFor();
  await bad.getByLabel('Error').waitFor();
  await stage.shot(tab, '20-calls');

  // They are the same after a reload, closed again.
  await tab.page.reload();
  await tab.ready();
  await until('the cards', async () => (await cards(tab).count()) === 2);
  await summed(tab, 'failed');
});

e2e('a call that is allowed in one tab is settled in the other', async (stage) => {
  const { one, two } = await asked(stage);
  await approval(one).getByText('Clerk wants to call clock.').waitFor();
  await approval(one).getByText('10 min left to answer').waitFor();
  await one.text('Clerk waits for your approval').waitFor();
  assert.match(await one.focused(), /Message Clerk/, 'nothing takes the focus from who writes');
  await one.page.locator('.session', { hasText: 'waiting for approval' }).waitFor();
  await stage.shot(one, '21-asked');

  await approval(one).getByRole('button', { name: 'Approve' }).click();

  for (const tab of [one, two]) {
    await approval(tab).waitFor({ state: 'detached' });
    await decision(tab).getByText('Approved by you').waitFor();
    await summed(tab, 'done');
    await tab.idle();
    await tab.answer.getByText('says:').waitFor();
  }
  // Who pressed the button still has the focus there.
  assert.match(await one.focused(), /^summary/);
  assert.match(await two.focused(), /^textarea/);
  await stage.shot(two, '21-settled-there');
});

e2e('a call is denied, and the agent is told why', async (stage) => {
  const { one, two } = await asked(stage);
  await approval(one).getByRole('button', { name: 'Deny…' }).click();
  await one.focusReaches(/^textarea/);
  // Back, and nothing was stopped by that.
  await one.page.keyboard.press('Escape');
  await one.focusReaches(/Deny…/);
  await one.page.keyboard.press('Enter');
  await one.focusReaches(/^textarea/);
  await one.page.keyboard.type('ask me tomorrow');
  await stage.shot(one, '21-deny');

  await approval(one).getByRole('button', { name: 'Deny' }).click();

  for (const tab of [one, two]) {
    await decision(tab).getByText('Denied by you: ask me tomorrow').waitFor();
    await summed(tab, 'denied');
    await tab.idle();
    await tab.answer.getByText('ask me tomorrow').waitFor();
  }
});

e2e('a call is allowed with other arguments, once they are right', async (stage) => {
  const { one, two } = await asked(stage);
  await approval(one).getByRole('button', { name: 'Edit…' }).click();
  const field = approval(one).getByRole('textbox', { name: 'Arguments, as JSON' });
  const send = () => approval(one).getByRole('button', { name: 'Approve with these' }).click();
  assert.deepEqual(JSON.parse(await field.inputValue()), { timezone: 'UTC' });

  await field.fill('{"timezone":');
  await send();
  await approval(one).getByText('This is not JSON').waitFor();
  await field.fill('{"zone":"UTC"}');
  await send();
  // What is wrong with it is the server's to say.
  await approval(one)
    .getByText(/^zone: expected/)
    .waitFor();
  await stage.shot(one, '21-edit');
  await field.fill('{"timezone":"Asia/Tokyo"}');
  await send();

  for (const tab of [one, two]) {
    await decision(tab).getByText('Approved by you with other arguments').waitFor();
    await tab.idle();
    await tab.answer.getByText('Asia/Tokyo').first().waitFor();
  }
  await cards(two).getByLabel('Called with').getByText('Asia/Tokyo').waitFor();
  await stage.shot(two, '21-edited');
});

e2e('of two calls at once, each is settled by itself', async (stage) => {
  const tab = await stage.open();
  await tab.startChat('Clerk');
  await tab.say('/tool clock {"timezone":"UTC"}\n/tool clock {"timezone":"Asia/Tokyo"}');
  await approval(tab).nth(1).waitFor();

  await approval(tab).first().getByRole('button', { name: 'Approve' }).click();
  await decision(tab).getByText('Approved by you').waitFor();
  assert.equal(await approval(tab).count(), 1);
  await tab.text('Clerk waits for your approval').waitFor();
  await approval(tab).getByRole('button', { name: 'Deny…' }).click();
  await approval(tab).getByRole('button', { name: 'Deny' }).click();

  await tab.idle();
  const settled = await tab.page.locator('.tool-decision').allInnerTexts();
  assert.deepEqual(
    settled.map((text) => text.trim()),
    ['Approved by you', 'Denied by you'],
  );
  await tab.answer.getByText('denied').waitFor();
});

e2e('who comes second is told so, and what was decided', async (stage) => {
  let gate;
  const one = await stage.open();
  await one.startChat('Clerk');
  const two = await stage.openIn(one.page.context(), one.page.url(), async (page) => {
    gate = await Gate.on(page, 'frontend-api');
  });
  await two.ready();
  await one.say('/tool clock {}');
  for (const tab of [one, two]) await approval(tab).waitFor();
  gate.hold();
  await approval(one).getByRole('button', { name: 'Approve' }).click();
  await decision(one).getByText('Approved by you').waitFor();

  await approval(two).getByRole('button', { name: 'Approve' }).click();

  await approval(two).getByText('This has been settled already, somewhere else.').waitFor();
  await stage.shot(two, '21-second');
  gate.release();
  await decision(two).getByText('Approved by you').waitFor();
  await two.idle();
});

e2e('a question outlives a reload, and is answered by keyboard', async (stage) => {
  const { one } = await asked(stage);
  await one.page.reload();
  await one.ready();
  await approval(one).waitFor();
  await one.text('Clerk waits for your approval').waitFor();

  await approval(one).getByRole('button', { name: 'Approve' }).focus();
  await one.page.keyboard.press('Enter');

  await decision(one).getByText('Approved by you').waitFor();
  await one.focusReaches(/^summary clock/);
  await one.idle();
});

e2e('a stop settles what was asked', async (stage) => {
  const { one, two } = await asked(stage);
  await one.stop.click();
  for (const tab of [one, two]) {
    await approval(tab).waitFor({ state: 'detached' });
    await summed(tab, 'cancelled');
    await tab.text('Stopped', { exact: true }).waitFor();
    await tab.idle();
  }
  await stage.shot(one, '21-stopped');
});

const clock = fakeClock();

e2e(
  'what nobody answers in time is denied, and says so',
  async (stage) => {
    const { one, two } = await asked(stage);
    for (const tab of [one, two]) tab.losesConnections = true;
    await stage.server.kill('SIGTERM');
    clock.set('+601');
    await stage.server.start();
    for (const tab of [one, two]) {
      await decision(tab).getByText('Denied: nobody answered in time').waitFor();
      await summed(tab, 'denied');
      await tab.idle();
    }
    await stage.shot(one, '21-expired');
  },
  { DUOLOGUE_STORE: 'sqlite:sessions.db', ...clock.environment },
);

e2e('what may be said next is a click away', async (stage) => {
  const tab = await stage.open();
  await tab.startChat('Helper');
  await tab.ask('/tool suggest {"items":["/echo one more","/count 5000 20"]}');
  const chips = tab.page.getByRole('list', { name: 'Suggestions' }).getByRole('button');
  await chips.first().waitFor();
  assert.deepEqual(await chips.allInnerTexts(), ['/echo one more', '/count 5000 20']);
  await stage.shot(tab, '22-suggestions');

  await chips.first().click();

  await tab.ownMessages('/echo one more').waitFor();
  await tab.idle();
  assert.equal((await tab.answer.innerText()).trim(), 'one more');
  assert.equal(await chips.count(), 0);
  await tab.focusReaches(/Message Helper/);
});

e2e('that somebody is typing is seen in the other tab', async (stage) => {
  const one = await stage.open();
  await one.startChat('Helper');
  const two = await stage.openIn(one.page.context(), one.page.url());
  await two.ready();
  const line = (tab) => tab.text('Somebody is typing…');

  await one.field.pressSequentially('half a thought');

  await line(two).waitFor();
  assert.equal(await line(one).count(), 0);
  await stage.shot(two, '22-typing');
  // Not with every key.
  const told = one.sent.filter(({ frame }) => frame.type === 'typing');
  assert.ok(told.length <= 2, `${told.length}`);
  await one.field.fill('');
  await line(two).waitFor({ state: 'detached' });

  // Who goes without a word is not waited for.
  await two.field.pressSequentially('x');
  await line(one).waitFor();
  await two.page.close();
  await line(one).waitFor({ state: 'detached' });
});
