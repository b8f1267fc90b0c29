/** Sockets are cut, stalled and closed for every reason: item 6 of the checklist. */

import assert from 'node:assert/strict';
import { e2e } from './support/e2e.js';
import { Gate } from './support/gate.js';
import { until } from './support/until.js';

function established(tab, door) {
  return tab.received.filter(
    ({ frame, door: from }) => from === door && frame.type === 'connection_established',
  ).length;
}

function snapshots(tab) {
  return tab.received.filter(({ frame }) => frame.type === 'session_snapshot').length;
}

/** The page gets its connection back without waiting for a countdown: its time is standing still. */
async function recoversAtOnce(tab) {
  const recovered = tab.page.locator('.connection.is-recovered');
  let passed = 0;
  await until('the connection', async () => {
    await tab.page.clock.runFor(20);
    passed += 20;
    return (await recovered.count()) > 0;
  });
  assert.ok(passed < 1_500, `it took ${passed} ms of the page's time`);
}

/** Waits end after their whole length, not a random part, and only when the test lets time pass. */
async function controlTime(page) {
  await page.clock.install();
  await page.addInitScript(() => (Math.random = () => 0.999));
}

/** Stops it at a moment that is still to come, or else it cannot be stopped. */
async function stopTime({ page }) {
  await until('the time to stop', async () => {
    const moment = await page.evaluate(() => Date.now() + 1_000);
    return page.clock.pauseAt(moment).then(
      () => true,
      () => false,
    );
  });
}

e2e('a socket that is cut in mid-answer comes back alone, and nothing is missed', async (stage) => {
  const proxy = await stage.proxy();
  const tab = await stage.open({ url: proxy.url });
  tab.losesConnections = true;
  await tab.startChat('Helper');
  await tab.say('/count 600 20');
  for (const door of ['frontend-api', 'backend-api']) {
    const other = door === 'frontend-api' ? 'backend-api' : 'frontend-api';
    const [before, ofOther] = [established(tab, door), established(tab, other)];
    await tab.counted((await tab.count()).last + 20);
    proxy.cut(door);
    await until(`another ${door}`, () => established(tab, door) > before);
    assert.equal(established(tab, other), ofOther, `${other} is kept`);
  }
  await tab.counted((await tab.count()).last + 20);
  const before = established(tab, 'frontend-api');
  proxy.cut();
  await until('both again', () => established(tab, 'frontend-api') > before);

  await tab.idle();

  await tab.assertCounted(600);
  assert.equal(snapshots(tab), 0, 'what was missed is replayed');
  await tab.ask('/echo both ways work');
  assert.equal((await tab.answer.innerText()).trim(), 'both ways work');
});

e2e('a stop that is wished for without a connection is done when there is one', async (stage) => {
  const proxy = await stage.proxy();
  const tab = await stage.open({ url: proxy.url });
  tab.losesConnections = true;
  await tab.startChat('Helper');
  await tab.say('/count 5000 20');
  await tab.counted(10);
  proxy.open = false;
  proxy.cut();
  await tab.connectionDialog.waitFor();
  await tab.stop.click();
  await tab.button('Stopping…').waitFor();
  await stage.shot(tab, '06-stopping');

  proxy.open = true;

  await tab.text('Stopped', { exact: true }).waitFor();
  await tab.idle();
  assert.equal((await tab.count()).wrong, undefined);
});

e2e('"Retry now" does not wait for the countdown', async (stage) => {
  const proxy = await stage.proxy();
  const tab = await stage.open({ url: proxy.url }, controlTime);
  tab.losesConnections = true;
  await tab.startChat('Helper');
  proxy.open = false;
  proxy.cut();
  await tab.connectionDialog.getByText('Attempt 4 · next in 4 s').waitFor();
  await stage.shot(tab, '06-outage');
  proxy.open = true;
  await stopTime(tab);

  await tab.button('Retry now').click();

  await recoversAtOnce(tab);
});

e2e('a network that is back is used at once', async (stage) => {
  const proxy = await stage.proxy();
  const tab = await stage.open({ url: proxy.url }, controlTime);
  tab.losesConnections = true;
  await tab.startChat('Helper');
  proxy.open = false;
  proxy.cut();
  await tab.connectionDialog.getByText('Attempt 4 · next in 4 s').waitFor();
  proxy.open = true;
  await stopTime(tab);

  // The browser's own may come a moment before the network does, and then one attempt is lost.
  await tab.page.evaluate(() => dispatchEvent(new Event('online')));

  await recoversAtOnce(tab);
});

e2e('a browser that is offline for a while misses nothing', async (stage) => {
  const proxy = await stage.proxy();
  const tab = await stage.open({ url: proxy.url });
  tab.losesConnections = true;
  await tab.startChat('Helper');
  await tab.say('/count 300 20');
  await tab.counted(20);
  const context = tab.page.context();
  await context.setOffline(true);
  proxy.cut();
  await tab.connectionDialog.getByText(/Attempt [2-9]/).waitFor();
  await stage.shot(tab, '06-offline');

  await context.setOffline(false);

  await tab.connectionDialog.waitFor({ state: 'detached' });
  await tab.idle();
  await tab.assertCounted(300);
  assert.equal(snapshots(tab), 0);
});

e2e(
  'a dead connection is found out when the page is looked at again',
  async (stage) => {
    const proxy = await stage.proxy();
    const tab = await stage.open({ url: proxy.url });
    await tab.startChat('Helper');
    await tab.say('/count 300 20');
    await tab.counted(20);
    const show = (state) =>
      tab.page.evaluate((visibility) => {
        Object.defineProperty(document, 'visibilityState', {
          value: visibility,
          configurable: true,
        });
        document.dispatchEvent(new Event('visibilitychange'));
      }, state);
    await show('hidden');
    const before = established(tab, 'frontend-api');
    // As after a night with the lid closed: the other side is gone, and nobody has said so.
    proxy.stall();

    await show('visible');

    await until('new sockets', () => established(tab, 'frontend-api') > before);
    await tab.idle();
    await tab.assertCounted(300);
    assert.equal(snapshots(tab), 0);
  },
  { DUOLOGUE_HEARTBEAT_SECS: '60' },
);

e2e('silence for longer than a heartbeat is the end of a connection', async (stage) => {
  const proxy = await stage.proxy();
  const tab = await stage.open({ url: proxy.url }, controlTime);
  await tab.startChat('Helper');
  await tab.say('/count 300 20');
  await tab.counted(20);
  const before = established(tab, 'frontend-api');
  proxy.stall();

  // The 25 s of a heartbeat, and the 10 s of grace.
  await tab.page.clock.fastForward(36_000);

  await until('new sockets', () => established(tab, 'frontend-api') > before);
  await tab.idle();
  await tab.assertCounted(300);
  assert.equal(snapshots(tab), 0);
});

e2e(
  'a page that was frozen for longer than a heartbeat catches up',
  async (stage) => {
    const log = await stage.commander();
    const tab = await stage.open();
    const sessionId = await tab.startChat('Helper');
    const devtools = await tab.page.context().newCDPSession(tab.page);
    await tab.say('/count 200 20');
    await tab.counted(20);
    await devtools.send('Page.setWebLifecycleState', { state: 'frozen' });
    await until('the whole answer', async () => (await log.answers(sessionId)).length === 1);
    await log.heartbeats(3);

    await devtools.send('Page.setWebLifecycleState', { state: 'active' });

    await tab.idle();
    await tab.assertCounted(200);
    await tab.ask('/echo awake');
    assert.equal((await tab.answer.innerText()).trim(), 'awake');
  },
  { DUOLOGUE_HEARTBEAT_SECS: '1' },
);

e2e('codes that mean "resume" lose nothing of an answer', async (stage) => {
  const gates = [];
  const tab = await stage.open({}, async (page) => {
    gates.push(await Gate.on(page, 'frontend-api'), await Gate.on(page, 'backend-api'));
    // So many in a row would make the waits long.
    await page.addInitScript(() => (Math.random = () => 0));
  });
  tab.losesConnections = true;
  await tab.startChat('Helper');
  await tab.say('/count 600 20');
  for (const code of [1001, 1011, 1012, 4001, 4002, 4004, 4399]) {
    await tab.counted((await tab.count()).last + 15);
    for (const gate of gates) {
      const before = gate.opened;
      await gate.close(code);
      await until(`another socket after ${code}`, () => gate.opened > before);
    }
  }

  await tab.idle();

  await tab.assertCounted(600);
  assert.equal(snapshots(tab), 0);
});

const ENDS = [
  ...[1002, 1003, 1007, 1009, 4400].map((code) => [code, 'This page is out of date', 'Reload']),
  [4401, 'Sign in again', 'Reload'],
  [4403, 'Not allowed', 'Retry now'],
  [4404, 'Not found', 'Retry now'],
  [4450, 'Connection refused', 'Retry now'],
];

e2e('codes that mean "not again" are told apart, and have a way out', async (stage) => {
  let gate;
  const tab = await stage.open({}, async (page) => (gate = await Gate.on(page, 'frontend-api')));
  tab.losesConnections = true;
  await tab.startChat('Helper');
  for (const [code, heading, action] of ENDS) {
    gate.refuse = () => code;
    await gate.close(code);
    const dialog = tab.connectionDialog;
    await dialog.getByRole('heading', { name: heading }).waitFor();
    assert.equal(await dialog.getByText(/Attempt/).count(), 0, 'nothing is tried again');
    if (code === 4450) await dialog.getByText('reason 4450').waitFor();
    if (code === 4404) {
      await tab.page.getByRole('heading', { name: 'Start a chat' }).waitFor();
      await stage.shot(tab, '06-code-4404');
    } else if (code > 4400) await stage.shot(tab, `06-code-${code}`);
    const before = gate.opened;
    gate.refuse = () => undefined;
    await dialog.getByRole('button', { name: action }).click();
    await until('another socket', () => gate.opened > before);
    await dialog.waitFor({ state: 'detached' });
    if (code === 4404) await tab.page.goBack();
    await tab.ready();
    await tab.ask(`/echo on after ${code}`);
    assert.equal((await tab.answer.innerText()).trim(), `on after ${code}`);
  }
});

e2e(
  'a tab whose identity is taken again and again gives way, until it is wanted',
  async (stage) => {
    let gate;
    const tab = await stage.open({}, async (page) => (gate = await Gate.on(page, 'frontend-api')));
    tab.losesConnections = true;
    await tab.startChat('Helper');
    gate.refuse = () => 4409;
    await gate.close(4409);
    const dialog = tab.connectionDialog;
    await dialog.getByRole('heading', { name: 'Opened elsewhere' }).waitFor();
    assert.equal(gate.opened, 2, 'once more, and then no more');
    await stage.shot(tab, '06-code-4409');

    gate.refuse = () => undefined;
    await tab.button('Use here').click();

    await dialog.waitFor({ state: 'detached' });
    await tab.ask('/echo here');
    assert.equal((await tab.answer.innerText()).trim(), 'here');
  },
);

e2e('after "too many connections" it waits twenty seconds', async (stage) => {
  let gate;
  const tab = await stage.open({}, async (page) => {
    await controlTime(page);
    gate = await Gate.on(page, 'frontend-api');
  });
  tab.losesConnections = true;
  await tab.startChat('Helper');
  await gate.close(4429);
  await tab.connectionDialog.getByText('Too many connections – waiting').waitFor();
  await tab.connectionDialog.getByText(/next in (20|1\d) s/).waitFor();
  await stage.shot(tab, '06-code-4429');
  assert.equal(gate.opened, 1);

  await tab.page.clock.fastForward(20_000);

  await until('another socket', () => gate.opened === 2);
  await tab.connectionDialog.waitFor({ state: 'detached' });
});
