/** Pause, resume, cancel: those of them that a task can be steered with now. */

import { useLayoutEffect, useRef } from 'preact/hooks';

interface Props {
  /** Of the task. */
  name: string;
  steering: readonly { label: string; does(): void }[];
}

export function SteeringButtons({ name, steering }: Props) {
  const group = useRef<HTMLDivElement>(null);
  const had = useRef<string | undefined>(undefined);
  const labels = steering.map(({ label }) => label).join();

  // What was pressed gives its place to what can be pressed next, and the focus with it.
  useLayoutEffect(() => {
    if (had.current === undefined || document.activeElement !== document.body) return;
    const next = group.current?.querySelector('button') ?? group.current;
    next?.focus();
  }, [labels]);

  return (
    // oxlint-disable-next-line jsx-a11y/no-noninteractive-element-interactions
    <div
      ref={group}
      class="task-buttons"
      role="group"
      aria-label={`Steer ${name}`}
      tabIndex={-1}
      onFocusIn={() => (had.current = labels)}
      onFocusOut={({ relatedTarget }) => {
        if (relatedTarget) had.current = undefined;
      }}
    >
      {steering.map(({ label, does }) => (
        <button key={label} type="button" class="button small" onClick={does}>
          {label}
        </button>
      ))}
    </div>
  );
}
