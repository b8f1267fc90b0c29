/** Changes of the shared document, made on what it is when they are made. */

import type { Client } from '../../client/client';
import type { PatchOperation, Refusal } from '../../client/wire.gen';

/** So long a newer version is waited for, of which a refusal told. */
const NEWER_MS = 3_000;

type Make = (value: unknown) => readonly PatchOperation[] | undefined;

/** Makes a change; where somebody else was faster, once more on what they made. Says why it was not made. */
export async function changeState(
  client: Client,
  sessionId: string,
  make: Make,
): Promise<string | undefined> {
  for (let attempt = 1; ; attempt++) {
    const shared = client.state.views.get(sessionId)?.shared;
    const patch = shared && make(shared.value);
    if (!patch) return undefined;
    // oxlint-disable-next-line no-await-in-loop -- the second is for where the first came too late
    const outcome = await client.updateState(sessionId, patch, shared.version);
    if (outcome.ok) return undefined;
    if (outcome.error.code !== 'conflict') return outcome.error.message;
    // oxlint-disable-next-line no-await-in-loop
    if (attempt === 2 || !(await newer(client, sessionId, shared.version, outcome.error))) {
      return 'It was changed at the same time by somebody else. Look again, and try again.';
    }
  }
}

/** Waits for the version that is known to be there: its event comes on the other socket. */
function newer(
  client: Client,
  sessionId: string,
  tried: number,
  { details }: Refusal,
): Promise<boolean> {
  const known = details['version'];
  const wanted = typeof known === 'number' ? known : tried + 1;
  const isHere = () => (client.state.views.get(sessionId)?.shared.version ?? 0) >= wanted;
  return new Promise((resolve) => {
    const look = () => isHere() && done(true);
    const unsubscribe = client.subscribe(look);
    const timer = setTimeout(() => done(false), NEWER_MS);
    function done(has: boolean): void {
      unsubscribe();
      clearTimeout(timer);
      resolve(has);
    }
    look();
  });
}
