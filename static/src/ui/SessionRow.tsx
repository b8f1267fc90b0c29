/** One chat in the list: its name, what goes on in it, and what can be done with it. */

import { useSignal } from '@preact/signals';
import { useRef } from 'preact/hooks';
import type { Session } from '../client/wire.gen';
import { activityOf } from './busy';
import { Icon } from './Icon';
import { Menu } from './Menu';
import { sessionTitle } from './names';
import { sessionHash } from './route';
import { useSessionActions } from './sessionActions';
import { useSelect } from './store';
import { TitleField } from './TitleField';

interface Props {
  session: Session;
  isOpen: boolean;
}

export function SessionRow({ session, isOpen }: Props) {
  const { session_id: sessionId } = session;
  const renaming = useSignal(false);
  const link = useRef<HTMLAnchorElement>(null);
  const title = useSelect((state) => sessionTitle(state, sessionId), sessionId);
  const activity = useSelect((state) => activityOf(state, sessionId), sessionId);
  const unread = useSelect((state) => state.unread.has(sessionId), sessionId);
  const { items, dialog } = useSessionActions(sessionId, () => (renaming.value = true));
  const status = activity ?? (unread ? 'new answer' : session.status === 'closed' ? 'closed' : '');

  if (renaming.value) {
    const done = () => {
      renaming.value = false;
      requestAnimationFrame(() => link.current?.focus());
    };
    return (
      <li class="session">
        <TitleField sessionId={sessionId} title={title} onDone={done} />
      </li>
    );
  }
  return (
    <li class={`session${isOpen ? ' is-open' : ''}${unread ? ' is-unread' : ''}`}>
      <a ref={link} href={sessionHash(sessionId)} aria-current={isOpen ? 'page' : undefined}>
        <span class="session-title" dir="auto">
          {title}
        </span>
        {status && (
          <span class={`session-status${activity ? ' is-active' : ''}`}>
            <span class="dot" aria-hidden="true" />
            {status}
          </span>
        )}
      </a>
      <Menu className="icon-button" label={`Actions for ${title}`} items={items}>
        <Icon name="more" />
      </Menu>
      {dialog}
    </li>
  );
}
