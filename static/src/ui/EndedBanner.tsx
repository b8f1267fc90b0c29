/** Why a chat takes no more messages, and where to go from there. */

import { useSignal } from '@preact/signals';
import type { Refusal, SessionClosed } from '../client/wire.gen';
import { agentName } from './names';
import { warn } from './notices';
import { AGENTS, goTo, sessionHash } from './route';
import { useSelect, useStore, useView } from './store';

interface Props {
  sessionId: string;
  /** What is being written, which goes along into a new chat. */
  draft?: (() => string | undefined) | undefined;
}

export function EndedBanner({ sessionId, draft }: Props) {
  const closed = useView(sessionId, (view) => view.closed);
  const problem = useView(sessionId, (view) => view.problem);
  const loaded = useView(sessionId, (view) => view.loaded);
  const known = { sessionId, draft };
  if (problem && closed?.reason !== 'deleted') {
    return <Problem {...known} problem={problem} loaded={loaded} />;
  }
  return closed ? <Closed {...known} closed={closed} /> : null;
}

const ENDINGS = {
  closed: 'This chat is closed and takes no more messages.',
  refreshed: 'This chat was started afresh and takes no more messages.',
  deleted: 'This chat was deleted. What you see is gone once you leave.',
};

function Closed({ sessionId, draft, closed }: Props & { closed: SessionClosed }) {
  const { replaced_by: next } = closed;
  return (
    <div class="notice">
      <p>{ENDINGS[closed.reason]}</p>
      {next ? (
        <a class="button" href={sessionHash(next)}>
          Go to the new chat
        </a>
      ) : (
        <NewChatButton sessionId={sessionId} draft={draft} />
      )}
    </div>
  );
}

interface ProblemProps extends Props {
  problem: Refusal;
  loaded: boolean;
}

function Problem({ sessionId, draft, problem, loaded }: ProblemProps) {
  const { client } = useStore();
  if (problem.code === 'session_not_found' && loaded) {
    return (
      <div class="notice is-error">
        <p>
          <strong>This chat is gone from the server.</strong> It was deleted, or the server has
          restarted without its memory. What you see is the copy in this tab: it can be read, but
          not continued. Text that was not sent goes along into a new chat.
        </p>
        <NewChatButton sessionId={sessionId} draft={draft} />
      </div>
    );
  }
  if (problem.code === 'session_not_found') {
    return (
      <div class="notice is-error">
        <p>
          <strong>The server has no chat “{sessionId}”.</strong> It may have been removed, or the
          address may be wrong.
        </p>
        <a class="button" href={AGENTS}>
          Start a new chat
        </a>
      </div>
    );
  }
  return (
    <div class="notice is-error">
      <p>This chat cannot be shown now: {problem.message}</p>
      <button type="button" class="button" onClick={() => client.askAgain(sessionId)}>
        Try again
      </button>
    </div>
  );
}

/** Opens a chat with the same agent, and takes along what was not sent in this one. */
export function NewChatButton({ sessionId, draft }: Props) {
  const { client } = useStore();
  const agentId = useView(sessionId, (view) => view.agentId);
  const name = useSelect((state) => agentName(state, agentId, sessionId), agentId, sessionId);
  const opening = useSignal(false);

  const open = async () => {
    if (opening.value) return;
    opening.value = true;
    const outcome = await client.continueElsewhere(sessionId, draft?.());
    opening.value = false;
    if (outcome.ok) goTo(sessionHash(outcome.data.session_id));
    else warn(`Could not start a chat: ${outcome.error.message}`);
  };
  return (
    <button type="button" class="button" aria-busy={opening.value} onClick={() => void open()}>
      Start a new chat with {name}
    </button>
  );
}
