/** One browser for each file of tests. */

import { existsSync } from 'node:fs';
import { chromium } from 'playwright-core';

const EXECUTABLE = process.env.CHROMIUM ?? '/usr/bin/chromium';

const ARGUMENTS = [
  '--no-sandbox',
  '--headless',
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
];

export function launchBrowser() {
  if (!existsSync(EXECUTABLE)) {
    throw new Error(
      `there is no browser at ${EXECUTABLE}: install Debian's chromium, ` +
        'or name another Chromium in the environment variable CHROMIUM',
    );
  }
  return chromium.launch({ executablePath: EXECUTABLE, args: ARGUMENTS });
}
