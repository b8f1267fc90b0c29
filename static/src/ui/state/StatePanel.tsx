/** The document that a session's agent and its clients share, as it is now. */

import { useView } from '../store';
import { Tree } from './Tree';
import { Tracker } from './Tracker';
import { trackerOf } from './tracker';

export function StatePanel({ sessionId }: { sessionId: string }) {
  const { value } = useView(sessionId, (view) => view.shared);
  const canChange = useView(sessionId, (view) => !view.closed && !view.problem);
  const tracker = trackerOf(value);
  return (
    <section class="state-panel" aria-label="Shared state">
      {tracker ? (
        <>
          <Tracker sessionId={sessionId} tracker={tracker} canChange={canChange} />
          <details class="state-raw">
            <summary>Everything in it</summary>
            <Tree value={value} />
          </details>
        </>
      ) : (
        <Tree value={value} />
      )}
    </section>
  );
}
