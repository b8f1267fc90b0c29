/** What the page weighs, and what a long answer costs: item 12 of the checklist. */

import { execFileSync } from 'node:child_process';
import { test } from 'node:test';
import { e2e } from './support/e2e.js';
import { inRepository } from './support/paths.js';

test('the built page is within its budgets', () => {
  // Ends with an error, which fails this test, if it is not.
  const figures = execFileSync(process.execPath, [inRepository('static/scripts/budget.js')]);
  console.log(String(figures).trimEnd());
});

/** Figures are printed and not judged: they are the machine's as much as the page's. */
e2e('a long answer on a slow machine', async (stage) => {
  const tab = await stage.open({ reducedMotion: 'reduce', probes: false });
  await tab.startChat('Writer');
  const devtools = await tab.page.context().newCDPSession(tab.page);
  await devtools.send('Performance.enable');
  await devtools.send('Emulation.setCPUThrottlingRate', { rate: 4 });
  const metrics = async () => {
    const { metrics: all } = await devtools.send('Performance.getMetrics');
    return Object.fromEntries(all.map(({ name, value }) => [name, value]));
  };
  await tab.page.evaluate(() => {
    const measured = { longTasks: [], gaps: [] };
    Object.assign(globalThis, { measured });
    new PerformanceObserver((list) => {
      measured.longTasks.push(...list.getEntries().map(({ duration }) => Math.round(duration)));
    }).observe({ type: 'longtask' });
    let last = performance.now();
    const frame = (now) => {
      measured.gaps.push(now - last);
      last = now;
      requestAnimationFrame(frame);
    };
    requestAnimationFrame(frame);
  });
  const before = await metrics();

  await tab.ask('/lorem 3000');

  const after = await metrics();
  const { longTasks, gaps } = await tab.page.evaluate(() => globalThis.measured);
  const sorted = gaps.toSorted((one, other) => one - other);
  const gap = (part) => sorted[Math.floor(sorted.length * part)].toFixed(0);
  const milliseconds = (name) => ((after[name] - before[name]) * 1000).toFixed(0);
  console.log(
    [
      `/lorem 3000, processor 4 × slower: ${milliseconds('Timestamp')} ms`,
      `main thread ${milliseconds('TaskDuration')} ms`,
      `(script ${milliseconds('ScriptDuration')}, style ${milliseconds('RecalcStyleDuration')}, layout ${milliseconds('LayoutDuration')})`,
      `${longTasks.length} long tasks, the longest ${Math.max(0, ...longTasks)} ms`,
      `frame gaps p50 ${gap(0.5)}, p99 ${gap(0.99)}, longest ${gap(0.99999)} ms`,
    ].join('\n  '),
  );
});
