/** A button with a menu: in the top layer, so that no scrolling list cuts it off. */

import type { ComponentChildren } from 'preact';
import { useId, useRef, useState } from 'preact/hooks';
import { Icon, type IconName } from './Icon';

export interface MenuItem {
  label: string;
  hint?: string;
  icon: IconName;
  choose(): void;
}

interface Props {
  label: string;
  items: readonly MenuItem[];
  children: ComponentChildren;
  className: string;
}

export function Menu({ label, items, children, className }: Props) {
  const id = useId();
  const button = useRef<HTMLButtonElement>(null);
  const menu = useRef<HTMLDivElement>(null);
  const [open, setOpen] = useState(false);

  const toggled = ({ newState }: Pick<ToggleEvent, 'newState'>) => {
    const opens = newState === 'open';
    setOpen(opens);
    if (!opens || !button.current || !menu.current) return;
    place(menu.current, button.current);
    menu.current.querySelector('button')?.focus();
  };

  const keyDown = (event: KeyboardEvent) => {
    const buttons = [...(menu.current?.querySelectorAll('button') ?? [])];
    const to = nextIndex(event.key, buttons.findIndex(isFocused), buttons.length);
    if (event.key === 'Tab') menu.current?.hidePopover();
    if (to === undefined) return;
    event.preventDefault();
    buttons[to]?.focus();
  };

  const choose = (item: MenuItem) => {
    menu.current?.hidePopover();
    button.current?.focus();
    item.choose();
  };

  return (
    <>
      <button
        ref={button}
        type="button"
        class={className}
        popovertarget={id}
        aria-haspopup="menu"
        aria-expanded={open}
        aria-label={label}
      >
        {children}
      </button>
      <div
        ref={menu}
        id={id}
        class="menu"
        popover="auto"
        role="menu"
        tabIndex={-1}
        aria-label={label}
        onToggle={toggled}
        onKeyDown={keyDown}
      >
        {items.map((item) => (
          <button
            key={item.label}
            type="button"
            role="menuitem"
            tabIndex={-1}
            onClick={() => choose(item)}
          >
            <Icon name={item.icon} />
            <span>
              {item.label}
              {item.hint && <small>{item.hint}</small>}
            </span>
          </button>
        ))}
      </div>
    </>
  );
}

function isFocused(element: Element): boolean {
  return element === document.activeElement;
}

function nextIndex(key: string, from: number, count: number): number | undefined {
  switch (key) {
    case 'ArrowDown':
      return (from + 1) % count;
    case 'ArrowUp':
      return (from - 1 + count) % count;
    case 'Home':
      return 0;
    case 'End':
      return count - 1;
    default:
      return undefined;
  }
}

const GAP = 4;

/** Puts the menu below its button, or above where there is no room below. */
function place(menu: HTMLElement, button: HTMLElement): void {
  const from = button.getBoundingClientRect();
  const { width, height } = menu.getBoundingClientRect();
  const below = from.bottom + GAP;
  const fits = below + height <= innerHeight - GAP;
  menu.style.top = `${fits ? below : Math.max(GAP, from.top - GAP - height)}px`;
  menu.style.left = `${Math.max(GAP, Math.min(from.left, innerWidth - width - GAP))}px`;
}
