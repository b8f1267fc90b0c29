/** What has been deleted can be taken back for a while; and what the server would not delete is told. */

import { useSignal } from '@preact/signals';
import { useEffect, useRef } from 'preact/hooks';
import { isDeletion } from '../client/commands';
import type { Pending } from '../client/state';
import { Icon } from './Icon';
import { sentence, sessionTitle } from './names';
import { announce } from './notices';
import { goTo, sessionHash } from './route';
import { leftChat } from './sessionActions';
import { useSelect, useStore } from './store';

/** For how long; not counted while it is pointed at, or has the focus by keyboard. */
const UNDO_MS = 6_000;

export function DeletionToast() {
  const pending = useSelect((state) => state.pending);
  const deletions = pending.filter(isDeletion);
  const held = deletions.filter(({ state }) => state === 'held');
  if (held.length > 0) return <Undo held={held} />;
  const refused = deletions.find(({ state }) => state === 'refused');
  return refused ? <Refused deletion={refused} /> : null;
}

function Undo({ held }: { held: readonly Pending[] }) {
  const { client } = useStore();
  const toast = useRef<HTMLElement>(null);
  const button = useRef<HTMLButtonElement>(null);
  const isPointedAt = useSignal(false);
  const isFocused = useSignal(false);
  const title = useSelect((state) => sessionTitle(state, held[0]?.sessionId ?? ''), held);
  const text = held.length === 1 ? `Deleted “${title}”.` : `Deleted ${held.length} chats.`;
  const ids = held.map(({ id }) => id).join();
  const isPaused = isPointedAt.value || isFocused.value;

  useEffect(() => {
    announce(text);
    // What had the focus has gone with the chat.
    button.current?.focus();
  }, [ids]);

  useEffect(() => {
    if (isPaused) return undefined;
    const timer = setTimeout(() => client.commitDeletions(), UNDO_MS);
    return () => clearTimeout(timer);
  }, [ids, isPaused]);

  useEffect(
    () => () => {
      if (!toast.current?.contains(document.activeElement)) return;
      document.querySelector<HTMLElement>('main')?.focus();
    },
    [],
  );

  const undo = () => {
    client.undoDeletions();
    announce(held.length === 1 ? 'The chat is back' : 'The chats are back');
    const isBack = held.some(({ sessionId }) => sessionId === leftChat.peek());
    if (isBack && leftChat.value !== undefined) goTo(sessionHash(leftChat.value));
  };

  return (
    <section
      ref={toast}
      class="toast"
      aria-label="Deleted chats"
      onPointerEnter={() => (isPointedAt.value = true)}
      onPointerLeave={() => (isPointedAt.value = false)}
      onFocusIn={({ target }) => {
        isFocused.value = target instanceof Element && target.matches(':focus-visible');
      }}
      onFocusOut={() => (isFocused.value = false)}
    >
      <span class="toast-text" dir="auto">
        {text}
      </span>
      <button ref={button} type="button" class="button small" onClick={undo}>
        Undo
      </button>
      <button
        type="button"
        class="icon-button"
        aria-label="Dismiss"
        onClick={() => client.commitDeletions()}
      >
        <Icon name="close" />
      </button>
    </section>
  );
}

function Refused({ deletion }: { deletion: Pending }) {
  const { client } = useStore();
  const { id, sessionId = '', error } = deletion;
  const title = useSelect((state) => sessionTitle(state, sessionId), sessionId);
  return (
    <div class="toast is-error" role="alert">
      <Icon name="alert" />
      <span class="toast-text">
        “{title}” could not be deleted. {sentence(error?.message ?? '')}
      </span>
      <button type="button" class="button small" onClick={() => client.resendMessage(id)}>
        Try again
      </button>
      <button
        type="button"
        class="icon-button"
        aria-label="Dismiss"
        onClick={() => client.discardMessage(id)}
      >
        <Icon name="close" />
      </button>
    </div>
  );
}
