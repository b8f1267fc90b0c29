/** What went wrong in a run, where it went wrong, and what can be done about it. */

import { useSignal } from '@preact/signals';
import { useEffect, useState } from 'preact/hooks';
import type { Item } from '../client/state';
import { INTERRUPTED, questionOf } from './conversation';
import { NewChatButton } from './EndedBanner';
import { Icon } from './Icon';
import { sentence } from './names';
import { useStore, useView } from './store';

interface Props {
  sessionId: string;
  item: Extract<Item, { kind: 'error' }>;
}

const HEADINGS: Record<string, string> = {
  provider_auth: 'The provider does not accept the key',
  provider_rate_limited: 'The provider is asked too often',
  provider_timeout: 'The provider did not answer in time',
  provider_error: 'The provider failed',
  context_overflow: 'The chat is too long for the model',
  tool_error: 'A tool failed',
  interrupted: INTERRUPTED,
};

const HINTS: Record<string, string> = {
  provider_auth: 'Set the key that is named here where the server runs, and restart the server.',
  context_overflow: 'Start a new chat, or ask for less at once.',
};

export function ErrorNote({ sessionId, item }: Props) {
  const { error } = item;
  const question = useView(sessionId, (view) => questionOf(view.items, item.runId));
  const canRepeat = useView(sessionId, (view) => {
    const isLast = view.items.findLast((other) => other.kind !== 'end')?.key === item.key;
    return isLast && !view.run && !view.closed && !view.problem;
  });
  return (
    <div class="error-note">
      <Icon name="alert" />
      <div>
        <p>
          <strong>{HEADINGS[error.code] ?? 'Something went wrong'}</strong>
        </p>
        <p>{sentence(error.message)}</p>
        {HINTS[error.code] && <p>{HINTS[error.code]}</p>}
        {canRepeat && error.code === 'context_overflow' && <NewChatButton sessionId={sessionId} />}
        {canRepeat && error.code !== 'context_overflow' && question !== undefined && (
          <RepeatButton sessionId={sessionId} question={question} item={item} />
        )}
      </div>
    </div>
  );
}

interface RepeatProps {
  sessionId: string;
  question: string;
  item: Props['item'];
}

function RepeatButton({ sessionId, question, item }: RepeatProps) {
  const { client } = useStore();
  const [notBefore] = useState(() => whenAllowed(item, Date.now()));
  const seconds = useSignal(secondsUntil(notBefore));
  useEffect(() => {
    if (seconds.value === 0) return undefined;
    const timer = setTimeout(() => (seconds.value = secondsUntil(notBefore)), 1000);
    return () => clearTimeout(timer);
  }, [seconds.value]);
  const waits = seconds.value > 0;
  return (
    <button
      type="button"
      class="button small"
      disabled={waits}
      onClick={() => client.sendMessage(sessionId, question)}
    >
      {waits ? `Try again in ${seconds.value} s` : 'Try again'}
    </button>
  );
}

/** When the provider may be asked again. The server's clock may be ahead of ours: never later than that. */
function whenAllowed({ at, error }: Props['item'], now: number): number {
  const wait = error.details['retry_after_ms'];
  const ms = typeof wait === 'number' ? wait : 0;
  return Math.min(Date.parse(at), now) + ms;
}

function secondsUntil(at: number): number {
  return Math.max(0, Math.ceil((at - Date.now()) / 1000));
}
