/** Changes an element to look like another one, in place: selections, focus and scroll stay. */

/** `wanted` is used up. What both have at the same place is kept; lists with keys are not known here. */
export function morph(element: Element, wanted: Element): void {
  for (const name of element.getAttributeNames()) {
    if (!wanted.hasAttribute(name)) element.removeAttribute(name);
  }
  for (const { name, value } of wanted.attributes) {
    if (element.getAttribute(name) !== value) element.setAttribute(name, value);
  }
  let [here, node] = [element.firstChild, wanted.firstChild];
  while (node) {
    const [nextHere, next]: (ChildNode | null)[] = [here?.nextSibling ?? null, node.nextSibling];
    if (!here) element.append(node);
    else if (here.nodeName !== node.nodeName) here.replaceWith(node);
    else if (here instanceof Element) morph(here, node as Element);
    else if (here.nodeValue !== node.nodeValue) here.nodeValue = node.nodeValue;
    [here, node] = [nextHere, next];
  }
  while (here) {
    const next: ChildNode | null = here.nextSibling;
    here.remove();
    here = next;
  }
}
