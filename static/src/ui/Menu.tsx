/** A button with a menu: in the top layer, so that no scrolling list cuts it off. */

import type { ComponentChildren } from 'preact';
import { useId, useRef, useState } from 'preact/hooks';
import { Icon, type IconName } from './Icon';

export interface MenuItem {
  label: string;
  hint?: string;
  icon: IconName;
  isDangerous?: boolean;
  /** What it does, or the file that it is a link to. */
  does: (() => void) | { file: string };
}

const ITEMS = '[role=menuitem]';

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
    menu.current.querySelector<HTMLElement>(ITEMS)?.focus();
  };

  const keyDown = (event: KeyboardEvent) => {
    const buttons = [...(menu.current?.querySelectorAll<HTMLElement>(ITEMS) ?? [])];
    const to = nextIndex(event.key, buttons.findIndex(isFocused), buttons.length);
    if (event.key === 'Tab') menu.current?.hidePopover();
    if (to === undefined) return;
    event.preventDefault();
    buttons[to]?.focus();
  };

  const choose = ({ does }: MenuItem) => {
    menu.current?.hidePopover();
    button.current?.focus();
    if (typeof does === 'function') does();
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
          <Item key={item.label} item={item} onChosen={() => choose(item)} />
        ))}
      </div>
    </>
  );
}

function Item({ item, onChosen }: { item: MenuItem; onChosen(): void }) {
  const { label, hint, icon, isDangerous, does } = item;
  const common = {
    role: 'menuitem',
    tabIndex: -1,
    class: isDangerous ? 'is-dangerous' : '',
    onClick: onChosen,
  } as const;
  const content = (
    <>
      <Icon name={icon} />
      <span>
        {label}
        {hint && <small>{hint}</small>}
      </span>
    </>
  );
  return typeof does === 'function' ? (
    <button type="button" {...common}>
      {content}
    </button>
  ) : (
    <a href={does.file} download {...common}>
      {content}
    </a>
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
