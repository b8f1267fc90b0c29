/** The agents: a click starts a chat. */

import { useSignal } from '@preact/signals';
import { useEffect } from 'preact/hooks';
import type { Agent } from '../client/wire.gen';
import { Avatar } from './Avatar';
import { lazily } from './lazily';
import { sound, warn } from './notices';
import { goTo, sessionHash } from './route';
import { useSelect, useStore } from './store';

const NoAgents = lazily(async () => (await import('./panels')).NoAgents);

export function Agents() {
  const { client } = useStore();
  const agents = useSelect((state) => state.agents);
  const agentsError = useSelect((state) => state.agentsError);
  useEffect(() => {
    if (agentsError !== undefined) sound(`The agents could not be loaded: ${agentsError}`);
  }, [agentsError]);
  return (
    <section class="page" aria-labelledby="agents-heading">
      <h1 id="agents-heading">Start a chat</h1>
      <p class="lead">Choose who to talk to.</p>
      {agents && agents.length > 0 && (
        <ul class="cards">
          {agents.map((agent) => (
            <AgentCard key={agent.id} agent={agent} />
          ))}
        </ul>
      )}
      {agents?.length === 0 && <NoAgents />}
      {!agents && agentsError !== undefined && (
        <div class="notice is-error">
          <p>The agents could not be loaded: {agentsError}</p>
          <button type="button" class="button" onClick={() => void client.queries.listAgents()}>
            Try again
          </button>
        </div>
      )}
      {!agents && agentsError === undefined && <Skeleton />}
    </section>
  );
}

function AgentCard({ agent }: { agent: Agent }) {
  const { client } = useStore();
  const creating = useSignal(false);

  const create = async () => {
    if (creating.value) return;
    creating.value = true;
    const outcome = await client.createSession(agent.id);
    creating.value = false;
    if (outcome.ok) goTo(sessionHash(outcome.data.session_id));
    else warn(`Could not start a chat with ${agent.name}: ${outcome.error.message}`);
  };

  return (
    <li>
      <button type="button" class="card" aria-busy={creating.value} onClick={() => void create()}>
        <span class="card-head">
          <Avatar name={agent.name} />
          <strong>{agent.name}</strong>
        </span>
        <span class="card-text">{agent.description}</span>
        <span class="card-model">{creating.value ? 'Opening…' : agent.model}</span>
      </button>
    </li>
  );
}

function Skeleton() {
  return (
    <>
      <p class="hint">Loading agents…</p>
      <ul class="cards" aria-hidden="true">
        <li class="card skeleton" />
        <li class="card skeleton" />
        <li class="card skeleton" />
      </ul>
    </>
  );
}
