/** What a model writes cannot harm the page: item 1 of the checklist. Every other test watches the console too. */

import assert from 'node:assert/strict';
import { e2e } from './support/e2e.js';

const HOSTILE = [
  '<script>alert(1)</script>',
  'Vec<String>',
  '<img src=x onerror=alert(2)>',
  '<a href="javascript:alert(3)">raw</a>',
  '[js](javascript:alert(4))',
  '[data](data:text/html,x)',
  '![pixel](https://evil.example/p.png)',
  '<p style="color:red" onclick="alert(5)">styled</p>',
  '<svg onload=alert(6)>',
  '<iframe src=//evil.example></iframe>',
  '<style>*{display:none}</style>',
  '<form action=//evil.example><input name=q></form>',
];

const HARMLESS = [
  '[ok](https://example.org/a?b=1&c=2)',
  '[relative](/x)',
  '[fragment](#/s/x)',
  '<me@example.org>',
  '<kbd>Esc</kbd>',
  'H<sub>2</sub>O',
].join(' ');

e2e('hostile Markdown is shown as text, and does nothing', async (stage) => {
  const tab = await stage.open();
  await tab.startChat('Helper');
  // Each as a block of its own, and each within a paragraph.
  const text = [...HOSTILE, ...HOSTILE.map((html) => `Within: ${html}`)].join('\n\n');
  await tab.ask(`/echo ${text}`);

  const shown = await tab.answer.innerText();
  for (const html of HOSTILE.filter((line) => /<\w/.test(line))) {
    assert.equal(shown.split(html).length - 1, 2, html);
  }
  const bad =
    'script, img, svg, iframe, style, form, input, [style], [onclick], [onload], [onerror]';
  assert.equal(await tab.answer.locator(bad).count(), 0);
  const addresses = await tab.answer
    .locator('a[href]')
    .evaluateAll((links) => links.map((link) => link.getAttribute('href')));
  // A remote image would tell that it was read: it is a link to be followed or not.
  assert.deepEqual(addresses, Array(2).fill('https://evil.example/p.png'));
  await stage.shot(tab, '01-hostile');

  // As it streams, and as it is loaded.
  await tab.page.reload();
  await tab.text('Vec<String>').last().waitFor();
  assert.equal(await tab.answer.locator(bad).count(), 0);
});

e2e('harmless Markdown works, and its links lead away safely', async (stage) => {
  const tab = await stage.open();
  await tab.startChat('Helper');
  await tab.ask(`/echo ${HARMLESS}`);

  const links = await tab.answer
    .locator('a')
    .evaluateAll((all) =>
      all.map((link) => [link.textContent, link.getAttribute('href'), link.target, link.rel]),
    );
  const away = ['_blank', 'noopener noreferrer nofollow'];
  assert.deepEqual(links, [
    ['ok', 'https://example.org/a?b=1&c=2', ...away],
    ['relative', null, '', ''],
    ['fragment', null, '', ''],
    ['me@example.org', 'mailto:me@example.org', ...away],
  ]);
  assert.equal(await tab.answer.locator('kbd').innerText(), 'Esc');
  assert.equal(await tab.answer.locator('sub').innerText(), '2');
});

e2e('code is coloured, and copied as it was written', async (stage) => {
  const tab = await stage.open();
  await tab.page.context().grantPermissions(['clipboard-read', 'clipboard-write']);
  await tab.startChat('Helper');
  const code = 'const a = "</code><b>x</b>";\n';
  await tab.ask(`/echo \`\`\`js\n${code}\`\`\``);
  await tab.answer.locator('.hljs-keyword').waitFor();
  const copied = () => tab.page.evaluate(() => navigator.clipboard.readText());

  await tab.button('Copy js code').click();
  await tab.answer.getByText('Copied').waitFor();
  assert.equal((await copied()).trimEnd(), code.trimEnd());
  await stage.shot(tab, '01-code');

  await tab.button('Copy message').last().click();
  await tab.page.getByRole('status').getByText('Copied').waitFor({ state: 'attached' });
  assert.ok((await copied()).startsWith('```js'));
});
