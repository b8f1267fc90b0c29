/** What sessions and agents are called where people read it. */

import type { State } from '../client/state';

export function agentName({ agents, views }: State, agentId: string, sessionId?: string): string {
  const listed = agents?.find((agent) => agent.id === agentId)?.name;
  const created = sessionId === undefined ? undefined : views.get(sessionId)?.agentName;
  return listed ?? created ?? capitalised(agentId);
}

/** A session's title, or the agent and number that it is known by. */
export function sessionTitle(state: State, sessionId: string): string {
  const view = state.views.get(sessionId);
  const session = state.sessions.get(sessionId);
  const title = view?.title ?? session?.title ?? state.tasks.get(sessionId)?.name;
  if (title) return title;
  const [agentId, number] = [sessionId.replace(/_[^_]*$/, ''), /_([^_]*)$/.exec(sessionId)?.[1]];
  const name = agentName(state, session?.agent_id ?? view?.agentId ?? agentId, sessionId);
  return number === undefined ? name : `${name} ${number}`;
}

/** A message of the server's, which begins small and ends open, as a sentence of its own. */
export function sentence(message: string): string {
  return /[.!?…]$/.test(message) ? capitalised(message) : `${capitalised(message)}.`;
}

/** Who decided or wrote something. Without accounts there is nobody but the user. */
export function person(principal: string): string {
  return principal === 'local' ? 'you' : principal;
}

function capitalised(text: string): string {
  return text.charAt(0).toUpperCase() + text.slice(1);
}
