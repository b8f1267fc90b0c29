// @vitest-environment happy-dom

import { expect, it } from 'vitest';
import { morph } from '../../src/markdown/morph';
import { seededRandom } from './helpers';

function element(html: string): HTMLElement {
  const template = document.createElement('template');
  template.innerHTML = html;
  return template.content.firstElementChild as HTMLElement;
}

it('keeps what stays, and changes the rest', () => {
  const block = element(
    '<div><p>one <em>two</em></p><pre class="a" title="x"><code>1</code></pre></div>',
  );
  const [paragraph, code] = [block.firstElementChild, block.lastElementChild];
  const text = paragraph?.firstChild;
  morph(
    block,
    element('<div><p>one more <em>two</em></p><pre class="b"><code>1</code>2</pre><hr></div>'),
  );
  expect(block.outerHTML).toBe(
    '<div><p>one more <em>two</em></p><pre class="b"><code>1</code>2</pre><hr></div>',
  );
  expect(block.firstElementChild).toBe(paragraph);
  expect(paragraph?.firstChild).toBe(text);
  expect(block.children[1]).toBe(code);
});

it('makes anything of anything', () => {
  const random = seededRandom(7);
  const tags = ['p', 'em', 'ul', 'code'];
  const any = (depth: number): string => {
    const parts = Array.from({ length: Math.floor(random() * 4) }, () => {
      const tag = tags[Math.floor(random() * tags.length)];
      const attribute = random() < 0.5 ? ` class="c${Math.floor(random() * 3)}"` : '';
      return depth === 0 || random() < 0.3
        ? `t${random()}`
        : `<${tag}${attribute}>${any(depth - 1)}</${tag}>`;
    });
    return parts.join('');
  };
  for (let round = 0; round < 300; round++) {
    const [from, to] = [element(`<div>${any(3)}</div>`), element(`<div>${any(3)}</div>`)];
    const wanted = to.outerHTML;
    morph(from, to);
    expect(from.outerHTML).toBe(wanted);
  }
});
