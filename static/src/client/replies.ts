/** Who waits for which reply. */

import type { Refusal, Reply } from './wire.gen';

export type Outcome<T> = { ok: true; data: T } | { ok: false; error: Refusal };

interface Waiting {
  resolve(outcome: Outcome<unknown>): void;
  /** A question is asked again by whoever still wants to know; a command stays pending. */
  isQuestion: boolean;
}

export const NOT_CONNECTED: Refusal = {
  code: 'unavailable',
  message: 'There is no connection to the server.',
  details: {},
  retryable: true,
};

export class Replies {
  readonly #waiting = new Map<string, Waiting>();

  /** The outcome of a command or question that is being sent under this id. */
  expect<T>(id: string, kind: 'command' | 'question'): Promise<Outcome<T>> {
    return new Promise((resolve) => {
      const waiting = resolve as (outcome: Outcome<unknown>) => void;
      this.#waiting.set(id, { resolve: waiting, isQuestion: kind === 'question' });
    });
  }

  take(reply: Reply<unknown>): void {
    const id = reply.reply_to ?? '';
    const outcome: Outcome<unknown> = reply.ok
      ? { ok: true, data: reply.data }
      : { ok: false, error: reply.error ?? NOT_CONNECTED };
    this.#waiting.get(id)?.resolve(outcome);
    this.#waiting.delete(id);
  }

  /** The replies to questions will not come; where `all` is given, no reply will. */
  giveUp(all?: 'all'): void {
    for (const [id, { resolve, isQuestion }] of this.#waiting) {
      if (!isQuestion && !all) continue;
      this.#waiting.delete(id);
      resolve({ ok: false, error: NOT_CONNECTED });
    }
  }
}
