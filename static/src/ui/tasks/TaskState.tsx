/** How a task stands: in a word, in parts of the whole, and in what its agent says of it. */

import { useEffect, useState } from 'preact/hooks';
import type { Task } from '../../client/wire.gen';
import { plainText } from '../../markdown/plain';
import { sentence } from '../names';
import { fullTime, shortTime } from '../time';
import { hasEnded, percent, statusWord, tookText } from './words';

export function TaskState({ task }: { task: Task }) {
  const { status, progress, confidence, error } = task;
  const text = textOf(task);
  const isShown = progress !== null && (status !== 'completed' || progress < 1);
  return (
    <>
      <p class={`task-status is-${status}`}>
        <span class="task-word">
          <span class="dot" aria-hidden="true" />
          {statusWord(task)}
        </span>
        {confidence !== null && <span>Confidence {percent(confidence)}</span>}
        <Took task={task} />
      </p>
      {isShown && (
        <p class="task-progress">
          <progress max={1} value={progress} aria-label={`Progress of ${task.name}`} />
          <span>{percent(progress)}</span>
        </p>
      )}
      {text && (
        <p class={error ? 'task-message is-error' : 'task-message'} dir="auto">
          {text}
        </p>
      )}
    </>
  );
}

/** What came of it, or else what its agent said last of how far it is. */
function textOf({ status, message, error, result }: Task): string | null {
  if (error) return sentence(error.message);
  return status === 'completed' && result !== null ? plainText(result) : message;
}

/** When it began, and how long it takes or took. */
function Took({ task }: { task: Task }) {
  const [now, setNow] = useState(Date.now);
  const isGoing = task.started_at !== null && !hasEnded(task);
  useEffect(() => {
    if (!isGoing) return undefined;
    const timer = setInterval(() => setNow(Date.now()), 1_000);
    return () => clearInterval(timer);
  }, [isGoing]);
  const date = new Date(task.started_at ?? task.created_at);
  return (
    <span class="tool-time">
      <time dateTime={date.toISOString()} title={fullTime(date)}>
        {task.started_at === null ? 'made ' : ''}
        {shortTime(date)}
      </time>
      {task.started_at !== null && ` · ${tookText(task, now)}`}
    </span>
  );
}
