/** How far a message of one's own has got. */

import type { Pending } from '../client/state';
import { sentence } from './names';
import { useSelect, useStore } from './store';

interface Props {
  pending: Pending;
  onEdit(text: string): void;
}

export function PendingStatus({ pending, onEdit }: Props) {
  const { client } = useStore();
  const ready = useSelect((state) => state.connection.phase === 'ready');
  if (pending.state !== 'refused') {
    return <p class="message-status">{describe(pending.state, ready)}</p>;
  }
  const edit = () => {
    client.discardMessage(pending.id);
    onEdit(String(pending.data['content']));
  };
  return (
    <div class="message-status is-error">
      <p>Not sent. {sentence(pending.error?.message ?? '')}</p>
      <div class="actions">
        <button type="button" class="button small" onClick={edit}>
          Edit
        </button>
        <button type="button" class="button small" onClick={() => client.resendMessage(pending.id)}>
          Try again
        </button>
      </div>
    </div>
  );
}

function describe(state: Exclude<Pending['state'], 'refused'>, ready: boolean): string {
  switch (state) {
    case 'held':
    case 'waiting':
      return ready ? 'Sending…' : 'Will be sent when the connection is back';
    case 'sent':
    case 'accepted':
      return 'Sending…';
    case 'unknown':
    case 'unsettled':
      return 'Not confirmed';
  }
}
