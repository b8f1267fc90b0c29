import { describe, expect, it } from 'vitest';
import { splitWhole } from '../../src/markdown/blocks';
import { plainText } from '../../src/markdown/plain';
import { renderBlock } from '../../src/markdown/render';

function html(markdown: string): string {
  return splitWhole(markdown)
    .map((block) => renderBlock(block, false))
    .join('')
    .trim();
}

describe('HTML in Markdown', () => {
  it('is shown as text', () => {
    expect(html('a Vec<String> b')).toContain('Vec&lt;String&gt;');
    expect(html('<script>alert(1)</script>')).not.toContain('<script');
    expect(html('x <img src=x onerror=alert(1)> y')).not.toContain('<img');
    expect(html('<p style="color:red">x</p>')).not.toContain('<p style');
    expect(html('<!-- x -->')).toContain('&lt;!-- x --&gt;');
  });

  it('passes only where it is harmless and exactly so', () => {
    expect(html('a<br>b<br/>c<br />d')).toBe('<p>a<br>b<br/>c<br />d</p>');
    expect(html('<kbd>Esc</kbd> x<sup>2</sup>')).toBe('<p><kbd>Esc</kbd> x<sup>2</sup></p>');
    expect(html('<kbd onclick="x">Esc</kbd>')).toContain('&lt;kbd onclick');
    expect(html('<BR>')).toContain('&lt;BR&gt;');
  });
});

it('makes links of images, which would tell others that the chat was read', () => {
  const image = html('![a "cat"](https://example.org/x.png?a=1&b=2 "a <title>")');
  expect(image).toBe(
    '<p><a href="https://example.org/x.png?a=1&amp;b=2" title="a &lt;title&gt;">' +
      'a &quot;cat&quot;</a></p>',
  );
});

it('puts headings below those of the page', () => {
  expect(html('# one')).toBe('<h2>one</h2>');
  expect(html('###### six')).toBe('<h6>six</h6>');
});

it('names the language of code, and nothing else', () => {
  expect(html('```Rust ignore\n<x>\n```')).toBe(
    '<pre><code class="language-rust">&lt;x&gt;</code></pre>',
  );
  expect(html('```"><script>\nx\n```')).toContain('class="language-script"');
});

it('writes tasks as text', () => {
  expect(html('- [x] done\n- [ ] open')).toContain('☑ done');
});

describe('what is read aloud', () => {
  it('has the words without the signs', () => {
    const text = '# Trip\n\nGo **now** to [Rome](https://example.org).\n\n- one\n- two\n\n---\n';
    expect(plainText(text)).toBe('Trip\nGo now to Rome.\none\ntwo');
  });

  it('has tables by rows, and code', () => {
    expect(plainText('| a | b |\n|---|---|\n| 1 | 2 |')).toBe('a, b\n1, 2');
    expect(plainText('```js\nlet x;\n```')).toBe('let x;');
  });
});
