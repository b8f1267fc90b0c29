/** One chat: head, messages, and the field to write in. */

import { useSignal } from '@preact/signals';
import { useRef } from 'preact/hooks';
import { ChatHead } from './ChatHead';
import { Composer, type ComposerHandle } from './Composer';
import { lazily } from './lazily';
import { MessageList } from './MessageList';
import { stateShown } from './preferences';
import type { SessionRoute } from './route';
import { useView } from './store';

const StatePanel = lazily(async () => (await import('./state/state')).StatePanel);
const TaskBar = lazily(async () => (await import('./tasks/tasks')).TaskBar);
const EndedBanner = lazily(async () => (await import('./panels')).EndedBanner);

interface Props {
  shown: SessionRoute;
  /** `undefined` while the sidebar is there. */
  onOpenSidebar: (() => void) | undefined;
}

export function Chat({ shown, onOpenSidebar }: Props) {
  const { sessionId } = shown;
  const loaded = useView(sessionId, (view) => view.loaded);
  const problem = useView(sessionId, (view) => view.problem);
  const closed = useView(sessionId, (view) => view.closed);
  const isTask = useView(sessionId, (view) => view.isTask);
  const hasState = useView(sessionId, (view) => view.shared.version > 0);
  const composer = useRef<ComposerHandle>(null);
  /** Counts messages sent, each of which takes the reader to the end. */
  const sent = useSignal(0);
  const ended = closed !== undefined || problem !== undefined;

  return (
    <>
      <div class="chat-head">
        <ChatHead sessionId={sessionId} onOpenSidebar={onOpenSidebar} />
        {isTask && <TaskBar sessionId={sessionId} />}
      </div>
      {hasState && stateShown.value && <StatePanel sessionId={sessionId} />}
      {loaded ? (
        <MessageList shown={shown} sent={sent} onEdit={(text) => composer.current?.insert(text)} />
      ) : (
        <div class="chat-body">
          {problem ? (
            <div class="chat-problem">
              <EndedBanner sessionId={sessionId} />
            </div>
          ) : (
            <Loading />
          )}
        </div>
      )}
      {(loaded || !problem) && (
        <div class="chat-foot">
          {ended && <EndedBanner sessionId={sessionId} draft={() => composer.current?.text()} />}
          <Composer
            sessionId={sessionId}
            handle={composer}
            isLoading={!loaded}
            isEnded={ended}
            onSent={() => sent.value++}
          />
        </div>
      )}
    </>
  );
}

function Loading() {
  return (
    <div class="loading">
      <span class="spinner" aria-hidden="true" />
      Loading agent…
    </div>
  );
}
