/** Owns the DOM of one message's text: brings it up to date as the text grows. */

import { NOTHING_SPLIT, splitMore, splitWhole, withoutFormingFence, type Block } from './blocks';
import { whenHighlighterLoads } from './highlight';
import { morph } from './morph';
import { renderBlock } from './render';
import { sanitise } from './sanitise';

/** What the button above a code does. */
export type CopyCode = (code: string, button: HTMLElement) => void;

interface Shown {
  raw: string;
  html: string;
  growing: boolean;
  element: HTMLElement;
}

export class MarkdownView {
  #split = NOTHING_SPLIT;
  #shown: Shown[] = [];
  #text = '';
  #complete = false;
  #stopWaiting: () => void;

  constructor(
    private readonly root: HTMLElement,
    private readonly copy: CopyCode,
  ) {
    // Code may have been shown plain before its colours came.
    this.#stopWaiting = whenHighlighterLoads(() => this.#showAll());
  }

  /** Shows a text that more may be added to. */
  stream(text: string): void {
    // Another text altogether, as after a crash of the server: nothing of it is settled.
    if (!text.startsWith(this.#text)) this.#split = NOTHING_SPLIT;
    this.#text = text;
    this.#complete = false;
    const settled = this.#split.settled.length;
    this.#split = splitMore(this.#split, withoutFormingFence(text));
    const blocks = [...this.#split.settled, ...this.#split.open];
    for (let index = settled; index < blocks.length; index++) {
      const block = blocks[index];
      const shown = this.#shown[index];
      const growing = index === blocks.length - 1;
      const same = shown && shown.raw === block?.raw && !shown.growing && !growing;
      if (block && !same) this.#show(index, block, growing);
    }
    this.#dropFrom(blocks.length);
  }

  /** Shows a text as a whole: a link may be defined at its very end. */
  complete(text: string): void {
    if (this.#complete && this.#text === text) return;
    this.#text = text;
    this.#complete = true;
    this.#showAll();
  }

  destroy(): void {
    this.#stopWaiting();
  }

  #showAll(): void {
    const blocks = this.#complete
      ? splitWhole(this.#text)
      : [...this.#split.settled, ...this.#split.open];
    const growing = this.#complete ? -1 : blocks.length - 1;
    blocks.forEach((block, index) => this.#show(index, block, index === growing));
    this.#dropFrom(blocks.length);
  }

  #show(index: number, block: Block, growing: boolean): void {
    const html = renderBlock(block, growing);
    const shown = this.#shown[index];
    const element = shown?.html === html ? shown.element : this.#draw(html, shown?.element);
    this.#shown[index] = { raw: block.raw, html, growing, element };
  }

  /** Draws a block, over the one that is there: in place, so that selections and scroll stay. */
  #draw(html: string, existing: HTMLElement | undefined): HTMLElement {
    const element = create('div', 'block');
    element.append(sanitise(html));
    decorate(element, this.copy);
    if (existing) morph(existing, element);
    else this.root.append(element);
    return existing ?? element;
  }

  #dropFrom(length: number): void {
    for (const { element } of this.#shown.splice(length)) element.remove();
  }
}

/** Adds what is ours: a bar above code, and a box around tables in which they scroll. */
function decorate(block: HTMLElement, onCopy: CopyCode): void {
  for (const pre of block.querySelectorAll('pre')) {
    const box = create('div', 'code');
    const bar = create('div', 'code-bar');
    const language = pre.firstElementChild?.className.replace('language-', '') || 'text';
    const copy = create('button', 'code-copy');
    copy.textContent = 'Copy';
    copy.setAttribute('type', 'button');
    copy.setAttribute('aria-label', `Copy ${language} code`);
    copy.addEventListener('click', () => {
      onCopy(copy.closest('.code')?.querySelector('code')?.textContent ?? '', copy);
    });
    const name = create('span', 'code-language');
    name.textContent = language;
    bar.append(name, copy);
    pre.tabIndex = 0;
    pre.setAttribute('aria-label', `${language} code`);
    pre.setAttribute('role', 'group');
    pre.replaceWith(box);
    box.append(bar, pre);
  }
  for (const table of block.querySelectorAll('table')) {
    const box = create('div', 'table');
    box.tabIndex = 0;
    box.setAttribute('role', 'group');
    box.setAttribute('aria-label', 'Table');
    table.replaceWith(box);
    box.append(table);
  }
}

function create(tag: string, className: string): HTMLElement {
  const element = document.createElement(tag);
  element.className = className;
  return element;
}
