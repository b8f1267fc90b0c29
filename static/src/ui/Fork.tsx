/** A chat that begins with another's past: how it is made, and the mark where that past ends. */

import { useSignal } from '@preact/signals';
import type { Item } from '../client/state';
import { Icon } from './Icon';
import { sessionTitle } from './names';
import { announce, warn } from './notices';
import { goTo, sessionHash } from './route';
import { useSelect, useStore } from './store';

export function ForkButton({ sessionId, item }: { sessionId: string; item: Item }) {
  const { client } = useStore();
  const isForking = useSignal(false);
  const { runId, seq } = item;
  if (runId === undefined) return null;

  const fork = async () => {
    if (isForking.value) return;
    isForking.value = true;
    const outcome = await client.forkSession(sessionId, runId, seq);
    isForking.value = false;
    if (!outcome.ok) return warn(`Could not fork the chat: ${outcome.error.message}`);
    announce('A new chat goes on from here');
    goTo(sessionHash(outcome.data.session_id));
  };
  return (
    <button
      type="button"
      class="icon-button"
      aria-label="Fork from here"
      title="Fork from here"
      aria-busy={isForking.value}
      onClick={() => void fork()}
    >
      <Icon name="fork" />
    </button>
  );
}

export function ForkNote({ sessionId, at }: { sessionId: string; at: number | undefined }) {
  const title = useSelect((state) => sessionTitle(state, sessionId), sessionId);
  return (
    <p class="run-end">
      <span>
        Forked from <a href={sessionHash(sessionId, at)}>{title}</a>
      </span>
    </p>
  );
}
