import { beforeAll, describe, expect, it } from 'vitest';
import { splitWhole } from '../../src/markdown/blocks';
import { highlight, whenHighlighterLoads } from '../../src/markdown/highlight';
import { renderBlock } from '../../src/markdown/render';

const CODE = 'let a = 1;\nlet b = 2;\nlet c';

describe('before the highlighter has come', () => {
  it('shows code plain, and asks for the highlighter', () => {
    expect(highlight(CODE, 'rust', true)).toBeUndefined();
  });
});

describe('colours', () => {
  beforeAll(
    () =>
      new Promise<void>((resolve) => {
        whenHighlighterLoads(resolve);
        highlight(CODE, 'rust', true);
      }),
  );

  it('are of all lines when the code is complete', () => {
    const coloured = highlight(CODE, 'rust', true);
    expect(coloured?.html.match(/hljs-keyword/g)).toHaveLength(3);
    expect(coloured?.rest).toBe('');
  });

  it('wait for the line to be complete', () => {
    const coloured = highlight(CODE, 'rust', false);
    expect(coloured?.html.match(/hljs-keyword/g)).toHaveLength(2);
    expect(coloured?.rest).toBe('let c');
  });

  it('end after 20,000 characters, at the end of a line, and do not go again', () => {
    const line = 'let a = 1;\n';
    const long = line.repeat(3_000);
    for (const complete of [false, true]) {
      const coloured = highlight(long, 'rust', complete);
      const plain = coloured?.rest.length ?? 0;
      expect(long.length - plain).toBeLessThanOrEqual(20_000);
      expect(long.length - plain).toBeGreaterThan(20_000 - line.length - 1);
    }
  });

  it('are had by other names of a language, and not by what is none', () => {
    expect(highlight('let a;', 'ts', true)?.html).toContain('hljs-keyword');
    expect(highlight('[a]\nb = 1', 'toml', true)?.html).toContain('hljs');
    expect(highlight('x', 'nonsense', true)).toBeUndefined();
  });

  it('come into code blocks, and the last line of an open one waits', () => {
    const [open] = splitWhole('```rust\nlet a;\nlet b');
    const [closed] = splitWhole('```rust\nlet a;\nlet b;\n```');
    if (!open || !closed) throw new Error('no code');
    expect(renderBlock(open, true).match(/hljs-keyword/g)).toHaveLength(1);
    expect(renderBlock(closed, true).match(/hljs-keyword/g)).toHaveLength(2);
    expect(renderBlock(open, false).match(/hljs-keyword/g)).toHaveLength(2);
  });
});
