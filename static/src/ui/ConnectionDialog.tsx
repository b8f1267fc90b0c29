/** Tells of a lost connection, without taking the focus: what is being written goes on being written. */

import { useSignal } from '@preact/signals';
import { useEffect } from 'preact/hooks';
import type { ConnectionState, Why } from '../client/state';
import { announce, sound } from './notices';
import { goTo, AGENTS } from './route';
import { useSelect, useStore } from './store';

/** A shorter outage is not worth a word. */
const QUIET_MS = 1_000;
/** How long it says that all is well again. */
const RECOVERED_MS = 2_000;

export function ConnectionDialog() {
  const connection = useSelect((state) => state.connection);
  const shown = useSignal<'nothing' | 'outage' | 'recovered'>('nothing');
  const { phase, since, why } = connection;

  useEffect(() => {
    if (phase === 'stopped') {
      shown.value = 'outage';
      sound('The connection has ended');
    } else if (phase !== 'ready') {
      if (shown.value !== 'nothing') {
        // Lost once more, as it was being said that all is well.
        shown.value = 'outage';
        return undefined;
      }
      const quiet = Math.max(0, since + QUIET_MS - Date.now());
      return later(quiet, () => {
        shown.value = 'outage';
        announce('Connection lost, retrying');
      });
    } else if (shown.value === 'outage') {
      shown.value = 'recovered';
      announce('Connected again');
    }
    return undefined;
  }, [phase, since]);

  useEffect(() => {
    if (shown.value !== 'recovered') return undefined;
    return later(RECOVERED_MS, () => (shown.value = 'nothing'));
  }, [shown.value]);

  useEffect(() => {
    if (phase === 'stopped' && why?.kind === 'not_found') goTo(AGENTS);
  }, [phase, why]);

  if (shown.value === 'nothing') return null;
  if (shown.value === 'recovered') {
    return <div class="connection is-recovered">Connected again</div>;
  }
  return (
    <div class="connection" role="dialog" aria-modal="false" aria-labelledby="connection-heading">
      {phase === 'stopped' ? <Stopped why={why} /> : <Outage connection={connection} />}
    </div>
  );
}

function later(ms: number, call: () => void): () => void {
  const timer = setTimeout(call, ms);
  return () => clearTimeout(timer);
}

function Outage({ connection: { attempt, nextAt, why } }: { connection: ConnectionState }) {
  const { client } = useStore();
  const seconds = useSecondsUntil(nextAt);
  const heading =
    why?.kind === 'restarting'
      ? 'Server is restarting – retrying'
      : why?.kind === 'rate_limited'
        ? 'Too many connections – waiting'
        : 'Connection closed – retrying';
  const next = nextAt === undefined ? 'connecting…' : `next in ${seconds} s`;
  return (
    <>
      <h2 id="connection-heading">{heading}</h2>
      <p>
        Attempt {Math.max(attempt, 1)} · {next}
      </p>
      <button type="button" class="button" onClick={() => client.retryConnection()}>
        Retry now
      </button>
    </>
  );
}

/** Counts down, once a second. */
function useSecondsUntil(at: number | undefined): number {
  const seconds = useSignal(0);
  useEffect(() => {
    if (at === undefined) return undefined;
    const tick = () => (seconds.value = Math.max(0, Math.ceil((at - Date.now()) / 1000)));
    tick();
    const timer = setInterval(tick, 1000);
    return () => clearInterval(timer);
  }, [at]);
  return seconds.value;
}

const ENDS: Partial<Record<Why['kind'], { heading: string; text: string; action: string }>> = {
  outdated: {
    heading: 'This page is out of date',
    text: 'The server does not understand it. Reload it to go on.',
    action: 'Reload',
  },
  unauthenticated: {
    heading: 'Sign in again',
    text: 'The server no longer knows who you are.',
    action: 'Reload',
  },
  forbidden: {
    heading: 'Not allowed',
    text: 'The server does not let you in here.',
    action: 'Retry now',
  },
  not_found: {
    heading: 'Not found',
    text: 'The server does not have what this page asked for.',
    action: 'Retry now',
  },
  elsewhere: {
    heading: 'Opened elsewhere',
    text: 'Another tab has taken over the connection of this one.',
    action: 'Use here',
  },
};

function Stopped({ why }: { why: Why | undefined }) {
  const { client } = useStore();
  const { heading, text, action } = (why && ENDS[why.kind]) ?? {
    heading: 'Connection refused',
    text: why?.reason || 'The server gave no reason.',
    action: 'Retry now',
  };
  return (
    <>
      <h2 id="connection-heading">{heading}</h2>
      <p>{text}</p>
      <button
        type="button"
        class="button"
        onClick={() => (action === 'Reload' ? location.reload() : client.retryConnection())}
      >
        {action}
      </button>
    </>
  );
}
