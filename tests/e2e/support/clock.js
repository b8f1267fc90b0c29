/** A clock for the server that can be set, so that nobody waits for ten minutes. */

import { existsSync, mkdtempSync, readdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** A library that stands between a program and the clock: the Debian package `faketime` has it. */
function library() {
  const places = readdirSync('/usr/lib')
    .map((folder) => join('/usr/lib', folder, 'faketime/libfaketimeMT.so.1'))
    .concat('/usr/lib/faketime/libfaketimeMT.so.1');
  const found = places.find((path) => existsSync(path));
  if (!found) throw new Error('libfaketimeMT.so.1 is below /usr/lib: apt-get install faketime');
  return found;
}

/** What a server is started with, and how its clock is set: it is off by so many seconds. */
export function fakeClock() {
  const directory = mkdtempSync(join(tmpdir(), 'duologue-clock-'));
  const file = join(directory, 'clock');
  process.on('exit', () => rmSync(directory, { recursive: true, force: true }));
  const set = (offset) => {
    writeFileSync(`${file}.new`, `${offset}\n`);
    renameSync(`${file}.new`, file);
  };
  set('+0');
  const environment = {
    LD_PRELOAD: library(),
    FAKETIME_TIMESTAMP_FILE: file,
    FAKETIME_NO_CACHE: '1',
    FAKETIME_DONT_FAKE_MONOTONIC: '1',
    NO_FAKE_STAT: '1',
  };
  return { environment, set };
}
