/** Rules of the source that no compiler checks. */

import { expect, it } from 'vitest';
import lockfile from '../../package-lock.json?raw';
import manifest from '../../package.json';
import page from '../../index.html?raw';

const sources = import.meta.glob<string>('../../src/**/*.{ts,tsx,css}', {
  query: '?raw',
  import: 'default',
  eager: true,
});

function filesWith(pattern: RegExp): string[] {
  return Object.entries(sources)
    .filter(([, text]) => pattern.test(text))
    .map(([path]) => path);
}

it('names no registry in the lockfile', () => {
  expect(lockfile).not.toContain('"resolved"');
});

it('has exact versions', () => {
  const versions = Object.values({ ...manifest.dependencies, ...manifest.devDependencies });
  for (const version of versions) expect(version).toMatch(/^\d+\.\d+\.\d+$/);
});

it('writes no HTML into the page but through the sanitiser', () => {
  expect(filesWith(/innerHTML|outerHTML|insertAdjacentHTML|document\.write/)).toEqual([]);
});

it('keeps page and framework out of the client', () => {
  const client = Object.keys(sources).filter((path) => path.includes('/client/'));
  expect(client.length).toBeGreaterThan(10);
  const imports = /from '(?:\.\.|preact|@preact)/;
  expect(filesWith(imports).filter((path) => path.includes('/client/'))).toEqual([]);
});

it('has no script and no style in the page itself', () => {
  expect(page).not.toMatch(/<style|style=|<script(?![^>]*\ssrc=)|\son\w+=/);
});

it('has its colours in one place', () => {
  const colour = /#[0-9a-f]{3,8}\b|\brgba?\(|\bhsla?\(/i;
  const styles = Object.entries(sources).filter(([path]) => path.endsWith('.css'));
  expect(styles.every(([, text]) => text.length > 100)).toBe(true);
  const others = styles.filter(([path]) => !path.endsWith('tokens.css'));
  expect(others.filter(([, text]) => colour.test(text)).map(([path]) => path)).toEqual([]);
});
