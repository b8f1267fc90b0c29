// Compares the built page with what it may weigh, compressed as it is sent.

import { readdirSync, readFileSync } from 'node:fs';
import { gzipSync } from 'node:zlib';

const ASSETS = new URL('../dist/assets/', import.meta.url);

const BUDGETS = [
  { what: 'start script', pattern: /^index-.*\.js$/, kilobytes: 65 },
  { what: 'highlighter', pattern: /^languages-.*\.js$/, kilobytes: 30 },
  // Banners, errors, questions, what was found: comes right after the start, which does not wait for it.
  { what: 'panels', pattern: /^panels-.*\.js$/, kilobytes: 4 },
  // What agents do beside talking: each comes when a chat first has it, or its page is opened.
  { what: 'calls of tools', pattern: /^calls-.*\.js$/, kilobytes: 4 },
  { what: 'shared state', pattern: /^state-.*\.js$/, kilobytes: 5 },
  { what: 'tasks', pattern: /^tasks-.*\.js$/, kilobytes: 6 },
  { what: 'styles', pattern: /\.css$/, kilobytes: 10 },
];

const files = readdirSync(ASSETS);
const known = (file) => BUDGETS.some(({ pattern }) => pattern.test(file));

for (const { what, pattern, kilobytes } of BUDGETS) {
  const found = files.filter((file) => pattern.test(file));
  const bytes = found.reduce(
    (sum, file) => sum + gzipSync(readFileSync(new URL(file, ASSETS))).length,
    0,
  );
  const fits = found.length > 0 && bytes <= kilobytes * 1000;
  console.log(`${fits ? 'ok  ' : 'OVER'} ${what}: ${(bytes / 1000).toFixed(1)} of ${kilobytes} kB`);
  if (!fits) process.exitCode = 1;
}

for (const file of files.filter((name) => !known(name))) {
  console.log(`OVER ${file}: has no budget`);
  process.exitCode = 1;
}
