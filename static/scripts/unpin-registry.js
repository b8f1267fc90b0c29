// Takes the addresses out of the lockfile of the package it is run in: which registry packages come from is
// its user's affair, and their content is checked by its hash.

import { readFileSync, writeFileSync } from 'node:fs';

const LOCKFILE = 'package-lock.json';

const lock = JSON.parse(readFileSync(LOCKFILE, 'utf8'));
for (const entry of Object.values(lock.packages)) delete entry.resolved;
writeFileSync(LOCKFILE, `${JSON.stringify(lock, null, 2)}\n`);
