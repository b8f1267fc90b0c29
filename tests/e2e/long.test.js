/** A chat of ten thousand messages. */

import assert from 'node:assert/strict';
import { e2e } from './support/e2e.js';
import { until } from './support/until.js';

/** As many messages in the page at once, at most. */
const MOST = 1_000;

e2e(
  'ten thousand messages: the newest at once, older ones on the way, and any by a jump',
  async (stage) => {
    const log = await stage.commander();
    const sessionId = await log.create('helper', 'Long');
    const needle = '/echo the needle in the hay';
    await log.fill(
      sessionId,
      Array.from({ length: 5_000 }, (_, index) =>
        index === 1_000 ? needle : `/echo straw ${index}`,
      ),
    );
    const began = Date.now();
    const tab = await stage.open({ url: `${stage.server.url}#/s/${sessionId}` });
    await tab.ready();
    await tab.sees('straw 4999');
    console.log(`opened in ${Date.now() - began} ms`);
    const mounted = () => tab.page.locator('.message').count();
    assert.ok((await mounted()) <= 210, 'the newest only');

    // Up and up: no more than the bound is ever in the page.
    let most = 0;
    await until('straw 4300', async () => {
      await tab.viewport.evaluate((viewport) => {
        viewport.dispatchEvent(new WheelEvent('wheel', { deltaY: -10 }));
        viewport.scrollTop = 0;
      });
      most = Math.max(most, await mounted());
      return (await tab.text('straw 4300', { exact: true }).count()) > 0;
    });
    assert.ok(most > 600 && most <= MOST, `${most} messages`);

    // A message from far away, without what lies between.
    tab.received.length = 0;
    await tab.page.getByRole('searchbox').fill('needle');
    await tab.page.getByRole('region', { name: 'In messages' }).locator('a').last().click();
    await tab.sees(needle);
    await stage.shot(tab, '17-jump');
    const pages = tab.received.filter(({ frame }) => frame.reply_to && frame.data?.events);
    assert.ok(pages.length <= 4, `${pages.length} pages`);
    assert.ok((await mounted()) <= MOST);
    assert.equal(await tab.text('straw 4999', { exact: true }).count(), 0);

    // From there, both ways.
    const goes = (deltaY) =>
      tab.viewport.evaluate((viewport, delta) => {
        viewport.dispatchEvent(new WheelEvent('wheel', { deltaY: delta }));
        viewport.scrollTop = delta < 0 ? 0 : viewport.scrollHeight;
      }, deltaY);
    await until('straw 700', async () => {
      await goes(-10);
      most = Math.max(most, await mounted());
      return (await tab.text('straw 700', { exact: true }).count()) > 0;
    });
    await until('straw 1800', async () => {
      await goes(10);
      most = Math.max(most, await mounted());
      return (await tab.text('straw 1800', { exact: true }).count()) > 0;
    });
    assert.ok(most <= MOST, `${most} messages`);
    const shown = await tab.page
      .locator('.from-agent .markdown')
      .evaluateAll((texts) => texts.map(({ textContent }) => textContent.trim()));
    const numbers = shown.map((text) => Number(text.replace('straw ', ''))).filter(Number.isFinite);
    assert.ok(numbers.every((number, index) => index === 0 || number > numbers[index - 1]));
    assert.ok(numbers.length > 300);

    await tab.button('Latest').click();
    await tab.sees('straw 4999');
    await until('the end', async () => (await tab.distanceToEnd()) <= 2);
    assert.ok((await mounted()) <= 410);
    await tab.ask('/echo and on');
    await tab.sees('/echo and on');
  },
);
