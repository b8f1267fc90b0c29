/** The field to write in, with what sends and what stops. */

import { useSignal } from '@preact/signals';
import type { RefObject } from 'preact';
import { useEffect, useLayoutEffect, useRef } from 'preact/hooks';
import { messagesOf } from '../client/commands';
import { isBusy } from './busy';
import { Icon } from './Icon';
import { isWide } from './media';
import { agentName } from './names';
import { announce, sound } from './notices';
import { useSelect, useStore, useView } from './store';

type Timer = ReturnType<typeof setTimeout> | undefined;

/** How long typing must pause before the draft is kept. */
const DRAFT_MS = 300;

export interface ComposerHandle {
  /** What is written. */
  text(): string;
  /** Adds a text to it. */
  insert(text: string): void;
}

interface Props {
  sessionId: string;
  handle: RefObject<ComposerHandle | null>;
  /** The chat has yet to come. */
  isLoading: boolean;
  /** The chat takes no more messages. */
  isEnded: boolean;
  onSent(): void;
}

export function Composer({ sessionId, handle, isLoading, isEnded, onSent }: Props) {
  const { client } = useStore();
  // Not controlled: a long text is slow enough without a framework at every key.
  const field = useRef<HTMLTextAreaElement>(null);
  const agentId = useView(sessionId, (view) => view.agentId);
  const name = useSelect((state) => agentName(state, agentId, sessionId), agentId, sessionId);
  const problem = useSignal('');
  const keepDraft = useDraft(sessionId, field);
  const tellTyping = () => client.tellTyping(sessionId, !!field.current?.textLength);

  const focusIfWide = () => isWide.peek() && field.current?.focus();

  useLayoutEffect(() => {
    handle.current = {
      text: () => field.current?.value ?? '',
      insert(text) {
        if (!field.current) return;
        const { value } = field.current;
        field.current.value = value === '' ? text : `${value}\n\n${text}`;
        field.current.focus();
        keepDraft();
      },
    };
  }, []);

  useEffect(() => {
    const focused = document.activeElement;
    if (!isLoading && !focused?.matches('input, textarea, dialog *, .message')) focusIfWide();
  }, [isLoading]);

  const send = () => {
    const content = field.current?.value.trim() ?? '';
    if (content === '' || !field.current || isLoading || isEnded) return;
    problem.value = client.sendMessage(sessionId, content) ?? '';
    if (problem.value !== '') return sound(problem.value);
    field.current.value = '';
    tellTyping();
    focusIfWide();
    onSent();
  };

  const recall = () => {
    const items = client.state.views.get(sessionId)?.items;
    const last = items?.findLast((item) => item.kind === 'user');
    if (last?.kind === 'user' && field.current) field.current.value = last.content;
  };

  const keyDown = (event: KeyboardEvent) => {
    // Safari ends a composition before the key that ended it: only its code tells.
    if (event.isComposing || event.keyCode === 229) return;
    if (event.key === 'Enter' && !event.shiftKey) {
      event.preventDefault();
      send();
    } else if (event.key === 'ArrowUp' && field.current?.value === '') {
      event.preventDefault();
      recall();
    }
  };

  return (
    <form
      class="composer"
      aria-label="Message"
      onSubmit={(event) => {
        event.preventDefault();
        send();
      }}
    >
      {problem.value && <p class="composer-problem">{problem.value}</p>}
      <textarea
        ref={field}
        rows={1}
        aria-label={`Message ${name}`}
        placeholder={isEnded ? 'This chat takes no more messages' : `Message ${name}…`}
        disabled={isLoading && !isEnded}
        readOnly={isEnded}
        enterkeyhint="send"
        dir="auto"
        onKeyDown={keyDown}
        onInput={() => {
          keepDraft();
          tellTyping();
        }}
      />
      <div class="composer-row">
        <Waiting sessionId={sessionId} />
        <StopButton sessionId={sessionId} onStop={focusIfWide} />
        <button
          type="submit"
          class="button primary send"
          aria-label="Send"
          disabled={isLoading || isEnded}
        >
          <Icon name="send" />
        </button>
      </div>
    </form>
  );
}

/** Keeps what is written, soon after it is; returns what must be called when it changes. */
function useDraft(sessionId: string, field: RefObject<HTMLTextAreaElement | null>): () => void {
  const { client } = useStore();
  const timer = useRef<Timer>(undefined);

  const keep = () => {
    if (timer.current === undefined) return;
    clearTimeout(timer.current);
    timer.current = undefined;
    client.drafts.setDraft(sessionId, field.current?.value ?? '');
  };

  useLayoutEffect(() => {
    const draft = client.drafts.draft(sessionId);
    // What is on its way is shown as a message already; its draft is kept until it has arrived.
    const isSent = messagesOf(client.state.pending, sessionId).some(
      ({ data }) => data['content'] === draft.trim(),
    );
    if (field.current && !isSent) field.current.value = draft;
    addEventListener('pagehide', keep);
    return () => {
      removeEventListener('pagehide', keep);
      keep();
    };
  }, []);

  return () => {
    clearTimeout(timer.current);
    timer.current = setTimeout(keep, DRAFT_MS);
  };
}

/** How many messages wait for the run that goes on, and whether another one is being written elsewhere. */
function Waiting({ sessionId }: { sessionId: string }) {
  const { client } = useStore();
  const count = useView(sessionId, (view) => view.queue.length);
  const running = useView(sessionId, (view) => view.run !== undefined);
  const others = useView(sessionId, (view) => view.typing.size > 0);
  return (
    <div class="waiting">
      {count > 0 && (
        <>
          <span>{count} waiting</span>
          {running && (
            <button type="button" class="link" onClick={() => client.stop(sessionId, true)}>
              Stop and clear
            </button>
          )}
        </>
      )}
      {others && <span>Somebody is typing…</span>}
    </div>
  );
}

function StopButton({ sessionId, onStop }: { sessionId: string; onStop(): void }) {
  const { client } = useStore();
  const busy = useSelect((state) => isBusy(state, sessionId), sessionId);
  const stopping = useView(sessionId, (view) => view.stop !== undefined);
  const problem = useView(sessionId, (view) => view.problem);
  if (!busy || problem) return null;
  return (
    <button
      type="button"
      class="button stop"
      aria-disabled={stopping}
      onClick={() => {
        if (stopping) return;
        client.stop(sessionId, false);
        announce('Stopping');
        onStop();
      }}
    >
      <Icon name="stop" />
      {stopping ? 'Stopping…' : 'Stop'}
    </button>
  );
}
