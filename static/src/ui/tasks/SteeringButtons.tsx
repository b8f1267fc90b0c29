/** Pause, resume, cancel: those of them that a task can be steered with now. */

import { useLayoutEffect, useRef } from 'preact/hooks';

interface Props {
  /** Of the task. */
  name: string;
  steering: readonly { label: string; does(): void }[];
}

export function SteeringButtons({ name, steering }: Props) {
  const group = useRef<HTMLDivElement>(null);
  const hasFocus = () => group.current?.contains(document.activeElement) ?? false;
  const hadFocus = hasFocus();

  // What was pressed gives its place to what can be pressed next, and the focus with it.
  useLayoutEffect(() => {
    if (!hadFocus || hasFocus()) return;
    const next = group.current?.querySelector('button') ?? group.current;
    next?.focus();
  });

  return (
    <div ref={group} class="task-buttons" role="group" aria-label={`Steer ${name}`} tabIndex={-1}>
      {steering.map(({ label, does }) => (
        <button key={label} type="button" class="button small" onClick={does}>
          {label}
        </button>
      ))}
    </div>
  );
}
