/** Who the chat is with, what it is called, and how full it is. */

import { useSignal } from '@preact/signals';
import { useRef } from 'preact/hooks';
import { ContextMeter } from './ContextMeter';
import { Icon } from './Icon';
import { Menu } from './Menu';
import { agentName, sessionTitle } from './names';
import { stateShown } from './preferences';
import { SidebarButton } from './Sidebar';
import { TitleField } from './TitleField';
import { useSessionActions } from './sessionActions';
import { useSelect, useView } from './store';

interface Props {
  sessionId: string;
  onOpenSidebar: (() => void) | undefined;
}

export function ChatHead({ sessionId, onOpenSidebar }: Props) {
  const title = useSelect((state) => sessionTitle(state, sessionId), sessionId);
  const agentId = useView(sessionId, (view) => view.agentId);
  const name = useSelect((state) => agentName(state, agentId, sessionId), agentId, sessionId);
  const context = useView(sessionId, (view) => view.context);
  const loaded = useView(sessionId, (view) => view.loaded);
  // What has no name is called by its agent's already.
  const isNamed = useView(sessionId, (view) => view.title !== undefined);
  const hasState = useView(sessionId, (view) => view.shared.version > 0);
  const renaming = useSignal(false);
  const head = useRef<HTMLElement>(null);
  const { items, dialog } = useSessionActions(sessionId, () => (renaming.value = true));

  const renamed = () => {
    renaming.value = false;
    requestAnimationFrame(() => head.current?.querySelector<HTMLElement>('.title-menu')?.focus());
  };

  return (
    <header class="bar" ref={head}>
      {onOpenSidebar && <SidebarButton onClick={onOpenSidebar} />}
      {renaming.value ? (
        <TitleField sessionId={sessionId} title={title} onDone={renamed} />
      ) : (
        <h1 class="title" dir="auto">
          {isNamed && <span class="title-agent">{name}</span>}
          <span class="title-text">{title}</span>
        </h1>
      )}
      {loaded && !renaming.value && (
        <Menu className="icon-button title-menu" label={`Actions for ${title}`} items={items}>
          <Icon name="down" />
        </Menu>
      )}
      <span class="bar-space" />
      {hasState && (
        <button
          type="button"
          class="icon-button"
          aria-label="Shared state"
          title="Shared state"
          aria-expanded={stateShown.value}
          onClick={() => (stateShown.value = !stateShown.value)}
        >
          <Icon name="state" />
        </button>
      )}
      {context && <ContextMeter context={context} />}
      {dialog}
    </header>
  );
}
