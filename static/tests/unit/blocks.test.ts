import { describe, expect, it } from 'vitest';
import {
  NOTHING_SPLIT,
  splitMore,
  splitWhole,
  withoutFormingFence,
  type Block,
  type Split,
} from '../../src/markdown/blocks';
import { renderBlock } from '../../src/markdown/render';
import { seededRandom } from './helpers';

/** Lines that make each other into something else. */
const LINES = [
  'plain text',
  '',
  '',
  '# heading',
  '===',
  '---',
  '- item',
  '- item two',
  '  - nested',
  '    indented',
  '\tby a tab',
  '1. first',
  '2) second',
  '   continued',
  '> quoted',
  '> - in a quote',
  '>',
  '```rust',
  '```',
  '~~~',
  'fn main() { let v: Vec<String> = vec![]; }',
  '| a | b |',
  '|---|:-:|',
  '| 1 | 2 |',
  '<div>',
  '</div>',
  '<br>',
  '<!-- a comment',
  '-->',
  '* * *',
  '**bold** and *em* `code`',
  '`` ` ``',
  '[link](https://example.org)',
  '![image](https://example.org/x.png)',
  '\\# no heading',
  'two spaces  ',
  '🙂 emoji and 語',
  '- [ ] task',
  '***',
  '+ plus',
];

function htmlOf(blocks: readonly Block[]): string {
  return blocks.map((block) => renderBlock(block, false)).join('');
}

function blocksOf(split: Split): Block[] {
  return [...split.settled, ...split.open];
}

function awkwardDocument(random: () => number): string {
  const pick = () => LINES[Math.floor(random() * LINES.length)] ?? '';
  const lines = Array.from({ length: 3 + Math.floor(random() * 14) }, pick);
  return lines.join(random() < 0.1 ? '\r\n' : '\n');
}

describe('splitting text that grows', () => {
  it('comes out as if every beginning of it were read as a whole', () => {
    const random = seededRandom(2026);
    for (let round = 0; round < 300; round++) {
      const text = awkwardDocument(random);
      let split = NOTHING_SPLIT;
      for (let end = 0; end <= text.length; end += 1 + Math.floor(random() * 8)) {
        const prefix = text.slice(0, end);
        split = splitMore(split, prefix);
        expect(htmlOf(blocksOf(split)), JSON.stringify(prefix)).toBe(htmlOf(splitWhole(prefix)));
      }
    }
  });

  it('loses no character', () => {
    const random = seededRandom(5);
    for (let round = 0; round < 100; round++) {
      const text = awkwardDocument(random).replaceAll('\r', '');
      let split = NOTHING_SPLIT;
      for (let end = 0; end <= text.length; end += 3) split = splitMore(split, text.slice(0, end));
      split = splitMore(split, text);
      const raws = blocksOf(split).map(({ raw }) => raw);
      let at = 0;
      for (const raw of raws) {
        const next = text.indexOf(raw, at);
        expect(text.slice(at, next).trim()).toBe('');
        at = next + raw.length;
      }
      expect(text.slice(at).trim()).toBe('');
    }
  });

  it('does not read again what is settled', () => {
    const text = 'one\n\ntwo\n\nthree\n\nfour\n\nfive';
    const before = splitMore(NOTHING_SPLIT, text);
    expect(before.settled.map(({ raw }) => raw)).toEqual(['one', 'two']);
    const after = splitMore(before, `${text} and more`);
    expect(after.settled[0]).toBe(before.settled[0]);
    expect(after.settledLength).toBe(text.indexOf('three'));
  });

  it('remembers the definitions of links that are settled', () => {
    const text = '[a]: https://example.org/a\n\none\n\ntwo\n\nthree\n\nfour\n\nsee [a]';
    let split = NOTHING_SPLIT;
    for (let end = 0; end <= text.length; end++) split = splitMore(split, text.slice(0, end));
    expect(split.settled.length).toBeGreaterThan(1);
    expect(htmlOf(split.open)).toContain('href="https://example.org/a"');
  });

  it('does not mind how lines end, even in the middle of an end', () => {
    const text = 'one\r\n\r\n- a\r\n- b\r\n\r\nthree\r\n\r\nfour\r\n\r\nfive';
    let split = NOTHING_SPLIT;
    for (let end = 0; end <= text.length; end++) {
      split = splitMore(split, text.slice(0, end));
      expect(htmlOf(blocksOf(split))).toBe(htmlOf(splitWhole(text.slice(0, end))));
    }
  });
});

describe('a forming fence', () => {
  it.each([
    ['text\n`', 'text\n'],
    ['text\n```', 'text\n'],
    ['text\n  ~~', 'text\n'],
    ['```js\ncode\n``', '```js\ncode\n'],
    ['``', ''],
    ['text\n```js', 'text\n```js'],
    ['text `', 'text `'],
    ['```js\ncode\n```\n', '```js\ncode\n```\n'],
    ['text\n    ```', 'text\n    ```'],
  ])('%j is shown as %j', (text, shown) => {
    expect(withoutFormingFence(text)).toBe(shown);
  });
});
