#!/bin/bash
# Builds VFIO with one file per device, and iommufd: Debian's kernels have neither VFIO_DEVICE_CDEV (drivers/vfio/Kconfig) nor
# IOMMUFD (drivers/iommu/iommufd/Kconfig). Runs with an unpacked tree of the kernel's headers and source as its root; leaves
# the modules in /modules, with the script that loads them.
set -eu
# No package script has set up the shell and awk alternatives.
ln -sf bash /usr/bin/sh
ln -sf gawk /usr/bin/awk
headers=$(echo /usr/src/linux-headers-*-amd64)
mkdir -p /build /modules
cd /build
tar -xJf /usr/src/linux-source-*.tar.xz --strip-components=1 --wildcards \
    '*/drivers/iommu/iommufd' '*/drivers/iommu/iommu-priv.h' '*/drivers/vfio' '*/lib/interval_tree.c'
mv drivers/iommu/* drivers/vfio .
# The kernel was built without the spans of interval trees, which only iommufd uses: it takes them along.
grep -v '^EXPORT_SYMBOL' lib/interval_tree.c > iommufd/spans.c
echo 'iommufd-y += spans.o' >> iommufd/Makefile
echo 'obj-m += iommufd/ vfio/' > Kbuild
# Both halves of an option are named: to kbuild, and to the sources, whose generated header knows nothing of it.
make -C "$headers" M=/build CONFIG_IOMMUFD=m CONFIG_VFIO_DEVICE_CDEV=y CONFIG_VFIO_MDEV= \
    KCFLAGS="-DCONFIG_IOMMUFD_MODULE=1 -DCONFIG_VFIO_DEVICE_CDEV=1 -DCONFIG_INTERVAL_TREE_SPAN_ITER=1" modules
echo '#!/bin/sh' > /modules/load
echo 'cd /opt/vfio-cdev && modprobe irqbypass' >> /modules/load
for module in iommufd/iommufd vfio/vfio vfio/vfio_iommu_type1 vfio/pci/vfio-pci-core vfio/pci/vfio-pci; do
    x86_64-linux-gnu-strip --strip-debug -o "/modules/${module##*/}.ko" "$module.ko"
    echo "insmod ${module##*/}.ko" >> /modules/load
done
chmod 755 /modules/load
