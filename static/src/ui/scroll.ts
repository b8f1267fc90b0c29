/**
 * Keeps the newest text in view for a reader who is at the end, and never moves a reader who is not.
 *
 * A rule of distance alone would pull back whoever scrolls up by one notch. So the end is left by what
 * readers do (wheel, keys, touch, scrollbar, selecting text), and found again by moving down to it.
 */

import { signal } from '@preact/signals';

/** So near to the end, moving down is meant to reach it. */
const NEAR_PX = 70;
/** A gesture that gains less was none: a trembling finger, a wheel at its stop. */
const LEAST_PX = 4;
/** A gesture is over when nothing of it has been heard for so long. */
const GESTURE_MS = 200;

/** What is shown stands so far down, in parts of the height: what led to it is in view too. */
const SHOWN_AT = 0.15;

/** How long messages that have just come above may still find their sizes. */
const SETTLING_MS = 250;

const UPWARD_KEYS = new Set(['PageUp', 'ArrowUp', 'Home']);

export class EndFollower {
  readonly following = signal(true);
  /** What is here ends before the end: moving down to it is not enough to follow. */
  endsBefore = false;
  #lastTop = 0;
  /** Where an upward gesture began; nothing is pinned while it lasts. */
  #heldFrom: number | undefined;
  #touchY = 0;
  #dragging = false;
  #timer: ReturnType<typeof setTimeout> | undefined;
  readonly #listening = new AbortController();
  /** What must not move, and where it is. */
  #kept: { element: Element; top: number } | undefined;
  #keptTimer: ReturnType<typeof setTimeout> | undefined;
  readonly #sizes = new ResizeObserver(() => this.#resized());

  constructor(
    private readonly viewport: HTMLElement,
    private readonly content: HTMLElement,
  ) {
    const { signal: ended } = this.#listening;
    const passive = { passive: true, signal: ended };
    viewport.addEventListener('scroll', () => this.#scrolled(), passive);
    viewport.addEventListener('wheel', (event) => this.#turned(event), passive);
    viewport.addEventListener('touchstart', (event) => this.#touched(event), passive);
    viewport.addEventListener('touchmove', (event) => this.#touched(event), passive);
    viewport.addEventListener('pointerdown', (event) => this.#pressed(event), passive);
    document.addEventListener('pointermove', (event) => this.#moved(event), passive);
    document.addEventListener('pointerup', (event) => this.#moved(event), passive);
    viewport.addEventListener('keydown', (event) => this.#key(event), { signal: ended });
    document.addEventListener('selectionchange', () => this.#selected(), passive);
    this.#sizes.observe(viewport);
    this.#sizes.observe(content);
    this.#pin();
  }

  /** Goes to the end and stays there. */
  toEnd(): void {
    this.#release();
    this.following.value = true;
    this.#pin();
  }

  /** Brings an element into view, and stays there. */
  show(element: Element): void {
    this.leave();
    const { top, height } = this.viewport.getBoundingClientRect();
    const wanted = top + height * SHOWN_AT;
    this.viewport.scrollTop += element.getBoundingClientRect().top - wanted;
    this.#lastTop = this.viewport.scrollTop;
    this.keep(element, element.getBoundingClientRect().top);
  }

  /** Follows no more. */
  leave(): void {
    this.#release();
    this.following.value = false;
  }

  /**
   * Keeps an element where it was before something came or went above it. Messages out of sight have a
   * guessed size until they are drawn, and browsers do not always make up for the difference.
   */
  keep(element: Element, top: number): void {
    if (this.following.peek()) return;
    this.#kept = { element, top };
    clearTimeout(this.#keptTimer);
    this.#keptTimer = setTimeout(() => (this.#kept = undefined), SETTLING_MS);
    this.#restore();
  }

  destroy(): void {
    clearTimeout(this.#timer);
    clearTimeout(this.#keptTimer);
    this.#listening.abort();
    this.#sizes.disconnect();
  }

  #resized(): void {
    this.#pin();
    this.#restore();
  }

  #restore(): void {
    if (!this.#kept?.element.isConnected) return;
    const { element, top } = this.#kept;
    this.viewport.scrollTop += element.getBoundingClientRect().top - top;
  }

  #pin(): void {
    if (!this.following.value || this.#heldFrom !== undefined) return;
    this.viewport.scrollTop = this.viewport.scrollHeight;
    this.#lastTop = this.viewport.scrollTop;
  }

  #hold(): void {
    if (!this.following.value) return;
    // By now the viewport may have moved already.
    this.#heldFrom ??= this.#lastTop;
    clearTimeout(this.#timer);
    if (!this.#dragging) this.#timer = setTimeout(() => this.#gestureEnded(), GESTURE_MS);
  }

  #release(): void {
    clearTimeout(this.#timer);
    this.#heldFrom = undefined;
  }

  #gestureEnded(): void {
    this.#release();
    this.#pin();
  }

  #scrolled(): void {
    const { scrollTop, scrollHeight, clientHeight } = this.viewport;
    const left = scrollHeight - clientHeight - scrollTop;
    const gained = (this.#heldFrom ?? this.#lastTop) - scrollTop;
    const down = scrollTop > this.#lastTop;
    this.#lastTop = scrollTop;
    // The scrolling may be heard of before what caused it. Text that shrinks leaves nothing below.
    if (this.following.value && gained >= LEAST_PX && left >= LEAST_PX) this.leave();
    else if (!this.following.value && down && left <= NEAR_PX && this.#canArrive()) this.toEnd();
  }

  #canArrive(): boolean {
    return !this.endsBefore && !this.#isSelecting();
  }

  #turned({ deltaY }: WheelEvent): void {
    this.#kept = undefined;
    if (deltaY < 0) this.#hold();
  }

  #touched({ type, touches }: TouchEvent): void {
    this.#kept = undefined;
    const y = touches[0]?.clientY ?? this.#touchY;
    // A finger that goes down draws the text above into sight.
    if (type === 'touchmove' && y > this.#touchY) this.#hold();
    this.#touchY = y;
  }

  #pressed({ target, offsetX }: PointerEvent): void {
    const onScrollbar = target === this.viewport && offsetX >= this.viewport.clientWidth;
    if (!onScrollbar) return;
    this.#dragging = true;
    this.#hold();
  }

  /** Browsers do not always tell when a scrollbar is let go; a pointer without buttons shows it. */
  #moved({ buttons }: PointerEvent): void {
    if (!this.#dragging || buttons !== 0) return;
    this.#dragging = false;
    this.#gestureEnded();
  }

  #key(event: KeyboardEvent): void {
    this.#kept = undefined;
    if (UPWARD_KEYS.has(event.key) || (event.key === ' ' && event.shiftKey)) this.#hold();
    else if (event.key === 'End') this.toEnd();
  }

  #selected(): void {
    if (this.following.value && this.#isSelecting()) this.leave();
  }

  #isSelecting(): boolean {
    const selection = getSelection();
    return !!selection && !selection.isCollapsed && this.content.contains(selection.anchorNode);
  }
}
