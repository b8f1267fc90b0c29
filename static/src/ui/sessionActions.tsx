/** What can be done with a chat, from the list and from its own head. */

import { signal, useSignal } from '@preact/signals';
import type { JSX } from 'preact';
import type { Outcome } from '../client/replies';
import type { State } from '../client/state';
import { ConfirmDialog } from './Confirm';
import type { MenuItem } from './Menu';
import { sessionTitle } from './names';
import { warn } from './notices';
import { AGENTS, goTo, route, sessionHash } from './route';
import { useSelect, useStore } from './store';

/** The chat that was looked at when it was deleted: whoever takes that back wants to see it again. */
export const leftChat = signal<string | undefined>(undefined);

interface SessionActions {
  items: MenuItem[];
  /** The question that is being asked, if one is. */
  dialog: JSX.Element | undefined;
}

export function useSessionActions(sessionId: string, rename: () => void): SessionActions {
  const { client } = useStore();
  const asking = useSignal<'close' | 'refresh' | undefined>(undefined);
  const title = useSelect((state) => sessionTitle(state, sessionId), sessionId);
  const isClosed = useSelect((state) => isClosedIn(state, sessionId), sessionId);

  const refresh = async () => {
    const outcome = await client.refreshSession(sessionId);
    if (outcome.ok) goTo(sessionHash(outcome.data.session_id));
    else warnOf('start afresh', outcome);
  };
  const close = async () => warnOf('close the chat', await client.closeSession(sessionId));

  const questions = {
    close: (
      <ConfirmDialog
        question={`Close “${title}”?`}
        explanation="It stays readable, but takes no more messages."
        confirm="Close chat"
        onConfirm={() => void close()}
        onClose={() => (asking.value = undefined)}
      />
    ),
    refresh: (
      <ConfirmDialog
        question={`Start “${title}” afresh?`}
        explanation="A new chat with the same agent opens. This one is closed; it stays readable."
        confirm="Start afresh"
        onConfirm={() => void refresh()}
        onClose={() => (asking.value = undefined)}
      />
    ),
  };

  const whileOpen: MenuItem[] = [
    { label: 'Rename', icon: 'pencil', does: rename },
    { label: 'Close', icon: 'close', does: () => (asking.value = 'close') },
  ];
  const always: MenuItem[] = [
    {
      label: 'Refresh',
      hint: 'A new chat with the same agent',
      icon: 'refresh',
      does: () => {
        // There is nothing to lose in a chat that is closed already.
        if (isClosed) void refresh();
        else asking.value = 'refresh';
      },
    },
    exported(sessionId, 'Markdown', 'markdown'),
    exported(sessionId, 'JSON Lines', 'jsonl'),
    {
      label: 'Delete',
      icon: 'trash',
      isDangerous: true,
      does: () => {
        const shown = route.peek();
        const isOpen = shown.page === 'session' && shown.sessionId === sessionId;
        leftChat.value = isOpen ? sessionId : undefined;
        client.deleteSession(sessionId);
        if (isOpen) goTo(AGENTS);
      },
    },
  ];
  return {
    items: isClosed ? always : [...whileOpen, ...always],
    dialog: asking.value && questions[asking.value],
  };
}

/** Relative to the page, which may be served below a path. */
function exported(sessionId: string, name: string, format: string): MenuItem {
  const file = `api/v1/sessions/${encodeURIComponent(sessionId)}/export?format=${format}`;
  return { label: `Export as ${name}`, icon: 'download', does: { file } };
}

function isClosedIn({ views, sessions }: State, sessionId: string): boolean {
  if (views.get(sessionId)?.closed) return true;
  return sessions.get(sessionId)?.status === 'closed';
}

function warnOf(attempt: string, outcome: Outcome<unknown>): void {
  if (!outcome.ok) warn(`Could not ${attempt}: ${outcome.error.message}`);
}
