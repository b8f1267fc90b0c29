/**
 * The picture in the README: a chat in mid-answer, with a model's words in place of the demo's.
 *
 * `npm run picture` puts it where the README has it.
 */

import assert from 'node:assert/strict';
import { copyFileSync, mkdirSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before } from 'node:test';
import { LLMock } from '@copilotkit/aimock';
import { e2e } from './support/e2e.js';
import { Gate } from './support/gate.js';
import { inRepository, OUTPUT } from './support/paths.js';

const AGENTS = join(OUTPUT, 'picture-agents.toml');
const PICTURE = join(OUTPUT, 'readme.png');
const IN_README = 'docs/ui.png';
const MAX_BYTES = 150_000;

const HELLO = 'Hi! I read code, and I write it. What are you working on?';

const FIRST = 'A chat client in the browser, and a server in Rust.';

const FIRST_ANSWER = 'Good company. Show me what hurts.';

const QUESTION = 'It loses words when the Wi-Fi drops. How do I resume?';

const ANSWER = `Number the events, and let the client say **where it stopped**:

\`\`\`rust
/// Everything after \`from\`, or why that cannot be had.
fn resume(&self, from: Position) -> Result<Replay, Refused> {
    if from.epoch != self.epoch {
        return Err(Refused::OtherEpoch); // the log began anew
    }
    let missed = self.events.get(from.seq..).ok_or(Refused::Ahead)?;
    Ok(Replay::from(missed))
}
\`\`\`

Three things make it hold:

1. **Gapless numbers.** The client applies \`seq == last + 1\` and nothing else.
2. **An epoch.** After a restart, old numbers must not match new events by accident.
3. **Offsets inside a message.** A delta says how many characters came before it, so text that streams can be joined without looking at the words, and a doubled one is seen at once.`;

/** As far as this, the answer has come when the picture is taken. */
const SO_FAR = 'A delta';

const model = new LLMock({ port: 0, logLevel: 'silent' });

before(async () => {
  model.onMessage(FIRST, { content: FIRST_ANSWER });
  model.onMessage(QUESTION, { content: ANSWER }, { chunkSize: 8, latency: 25 });
  await model.start();
  mkdirSync(OUTPUT, { recursive: true });
  writeFileSync(
    AGENTS,
    `[[agents]]
id = "reviewer"
name = "Reviewer"
description = "Reads code, and writes it"
model = "mock::gpt-4o-mini"
seed_messages = [{ role = "assistant", content = "${HELLO}" }]
context_window = 512

[providers.mock]
kind = "openai"
base_url = "${model.url}/v1/"
`,
  );
});
after(() => model.stop());

e2e(
  'a chat with a model makes a fine picture',
  async (stage) => {
    const log = await stage.commander();
    for (const title of ['Release notes', 'Regex for log lines', 'Backpressure, explained']) {
      await log.create('reviewer', title);
    }
    let gate;
    const tab = await stage.open(
      { colorScheme: 'light', reducedMotion: 'reduce' },
      async (page) => (gate = await Gate.on(page, 'frontend-api')),
    );
    const sessionId = await tab.startChat('Reviewer');
    const rename = { action: 'rename', title: 'Resuming a stream' };
    await log.command('session_management', { session_id: sessionId, data: rename });
    await tab.page.waitForFunction(() => document.title.startsWith('Resuming a stream'));
    await tab.ask(FIRST);
    await tab.say(QUESTION);
    await tab.answer.getByText(SO_FAR).waitFor();
    gate.hold();
    await tab.answer.locator('.hljs-keyword').first().waitFor();

    await stage.shot(tab, 'readme');

    gate.release();
    await tab.idle();
    assert.ok(statSync(PICTURE).size < MAX_BYTES, `${statSync(PICTURE).size} bytes`);
    if (process.env.UPDATE_PICTURE) {
      mkdirSync(inRepository('docs'), { recursive: true });
      copyFileSync(PICTURE, inRepository(IN_README));
    }
  },
  { DUOLOGUE_AGENTS: AGENTS },
);
